"""Ask one final export for all products of two digits, in forms of statement that it was and was not trained on.

Reads exports/CONDITION/seed_S/step_MAX. Writes metrics/CONDITION/seed_S/probes.json and scores/CONDITION/seed_S/probes: a
line for each answer.
Costs about twelve seconds in the demo, five of them to start.
"""

import sys
from pathlib import Path

from model.errors import run_stage
from model.files import checksummed_directory, verified_directory, write_json, write_jsonl
from model.generation import continue_greedily
from model.hf_directory import read_tokenizer
from model.hf_loading import load_hugging_face_model
from model.params.probes import ProbesParams
from model.probes import ProbeTokenizer, ask, questions, read_answers, summarize
from model.section import read_section
from model.torch_settings import require_device, set_deterministic


def main() -> None:
    run = Path(sys.argv[1]) / f"seed_{sys.argv[2]}"
    params = read_section("probes", ProbesParams)
    step = read_section("pretrain.max_steps", int)
    require_device("probes.device", params.device)
    set_deterministic(params.threads)
    export = verified_directory(Path("exports") / run / f"step_{step}")
    model = load_hugging_face_model(export).to(params.device)
    tokenizer = ProbeTokenizer(read_tokenizer(export, model.config.vocab_size), model.config.bos_token_id)

    def continue_all(prompts: list[list[int]]) -> list[list[int]]:
        return continue_greedily(model, prompts, params.new_tokens, params.batch_rows, f"probes {run}")

    answers = ask(questions(), tokenizer, continue_all)
    directory = Path("scores") / run / "probes"
    with checksummed_directory(directory) as output:
        write_jsonl(output / "answers.jsonl", [answer._asdict() for answer in answers])
    # From the file that is kept, so that whoever reads it finds the same figures.
    metrics = summarize(read_answers(directory / "answers.jsonl"))
    write_json(Path("metrics") / run / "probes.json", metrics)
    figures = ", ".join(f"{group} {ways['text']['rate']:.4f}" for group, ways in metrics["injected"].items())
    print(f"probes {run}: right in text, facts injected: {figures}")


if __name__ == "__main__":
    run_stage(main)
