"""Probe one final export, or its fine-tuned model, for all products of two digits, in every form.

Reads MODELS/CONDITION/seed_S/step_MAX, where MODELS is exports or sft. Writes
metrics/CONDITION/seed_S/probes/MODELS.json, and scores/CONDITION/seed_S/probes/MODELS: a line for
each answer. Costs about twelve seconds in the demo, five of them to start.
"""

import sys
from pathlib import Path

from common.errors import run_stage
from common.files import checksummed_directory, verified_directory, write_json, write_jsonl
from common.sections import read_section
from model.hugging_face.directory import read_tokenizer
from model.hugging_face.loading import end_of_text, load_hugging_face_model
from model.numerics.setting import set_numerics
from model.params.numerics import NumericsParams
from model.params.probes import ProbesParams
from model.post_training.arithmetic_probes import (
    ProbeTokenizer,
    ask,
    questions,
    read_answers,
    summarize,
)
from model.post_training.decoding import continue_greedily
from model.runtime.torch_setup import require_device
from model.tokens.export_tokenizer import FactTokenizer


def main() -> None:
    models, condition, seed = sys.argv[1:]
    run = Path(condition) / f"seed_{seed}"
    params = read_section("probes", ProbesParams)
    step = read_section("pretrain.max_steps", int)
    require_device("probes.device", params.device)
    threads = set_numerics(read_section("numerics", NumericsParams)).side_by_side
    directory = verified_directory(Path(models) / run / f"step_{step}")
    model = load_hugging_face_model(directory, params.device)
    tokenizer = ProbeTokenizer(
        FactTokenizer(read_tokenizer(directory, model.config.vocab_size), end_of_text(model))
    )

    def continue_all(prompts: list[list[int]]) -> list[list[int]]:
        found = continue_greedily(
            model, prompts, params.new_tokens, params.batch_rows, f"probes {models} {run}", threads
        )
        return [continuation.ids for continuation in found]

    answers = ask(questions(), tokenizer, continue_all)
    answers_kept = Path("scores") / run / "probes" / models
    with checksummed_directory(answers_kept) as output:
        write_jsonl(output / "answers.jsonl", [answer._asdict() for answer in answers])
    # Computed from the file just written, so anyone who reads it finds the same figures.
    metrics = summarize(read_answers(answers_kept / "answers.jsonl"))
    write_json(Path("metrics") / run / "probes" / f"{models}.json", metrics)
    figures = ", ".join(
        f"{group} {ways['text']['rate']:.4f}" for group, ways in metrics["injected"].items()
    )
    print(f"probes {models} {run}: right in text, facts injected: {figures}")


if __name__ == "__main__":
    run_stage(main)
