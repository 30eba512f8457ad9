"""Score one export on HellaSwag and on continuations of held-out text.

Reads exports/CONDITION/seed_S/step_N and data/items. Writes metrics/CONDITION/seed_S/step_N/evaluation.json and
scores/CONDITION/seed_S/step_N: one line of log-likelihoods for each item.
Costs the import of transformers plus about ten seconds in the demo.
"""

import sys
from pathlib import Path

from transformers import AutoTokenizer

from model.errors import run_stage
from model.files import checksummed_directory, read_jsonl, verified_directory, write_json, write_jsonl
from model.hf_loading import load_hugging_face_model
from model.item_scores import read_scores, summarize
from model.items import read_items
from model.params.evaluate import EvaluateParams
from model.scoring import score_items
from model.section import read_section
from model.torch_settings import keep_freed_memory, require_device, set_deterministic

TASKS = ("hellaswag", "continuation")


def main() -> None:
    run = Path(sys.argv[1]) / f"seed_{sys.argv[2]}" / f"step_{sys.argv[3]}"
    params = read_section("evaluate", EvaluateParams)
    require_device("evaluate.device", params.device)
    set_deterministic(params.threads)
    keep_freed_memory()
    export = verified_directory(Path("exports") / run)
    model = load_hugging_face_model(export).to(params.device)
    tokenizer = AutoTokenizer.from_pretrained(export, local_files_only=True)

    scores_directory = Path("scores") / run
    with checksummed_directory(scores_directory) as output:
        for task in TASKS:
            path = Path("data/items") / f"{task}.jsonl"
            items = read_items(path, read_jsonl(path))
            scores = score_items(model, tokenizer, items, params.batch_tokens, f"{task} {run}")
            write_jsonl(output / f"{task}.jsonl", [score._asdict() for score in scores])
    # From the files that are kept, so that whoever reads them finds the same figures.
    metrics = {task: summarize(read_scores(scores_directory / f"{task}.jsonl")) for task in TASKS}
    write_json(Path("metrics") / run / "evaluation.json", metrics)
    figures = ", ".join(f"{task} acc_norm {metrics[task]['acc_norm']['rate']:.4f}" for task in TASKS)
    print(f"evaluate {run}: {figures}")


if __name__ == "__main__":
    run_stage(main)
