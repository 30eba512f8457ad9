"""Let one fine-tuned model answer the problems greedily, and keep every answer unchanged.

Reads sft/CONDITION/seed_S/step_MAX and data/problems. Writes generations/CONDITION/seed_S: a line
for each problem. Costs about twenty seconds of two cores in the demo; at full size minutes of one
GPU, not measured.
"""

import sys
from collections import Counter
from pathlib import Path

from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel

from common.errors import run_stage
from common.files import checksummed_directory, verified_directory
from common.sections import read_section
from model.data.conversations import AskedQuestion, read_kept
from model.hugging_face.directory import read_tokenizer
from model.hugging_face.loading import end_of_text, load_hugging_face_model
from model.numerics.setting import set_numerics
from model.numerics.side_by_side import SideBySide
from model.params.generate import GenerateParams
from model.params.numerics import NumericsParams
from model.post_training.answer_files import Ended, Generation, write_generations
from model.post_training.chat_format import prompt_ids
from model.post_training.decoding import continue_greedily
from model.runtime.torch_setup import keep_freed_memory, require_device
from model.tasks.problem_sets import PROBLEM_SETS
from model.tokens.export_tokenizer import FactTokenizer

PROBLEMS = Path("data/problems")


def main() -> None:
    run = f"{sys.argv[1]}/seed_{sys.argv[2]}"
    params = read_section("generate", GenerateParams)
    step = read_section("pretrain.max_steps", int)
    require_device("generate.device", params.device)
    threads = set_numerics(read_section("numerics", NumericsParams)).side_by_side
    keep_freed_memory()
    directory = verified_directory(Path("sft") / run / f"step_{step}")
    model = load_hugging_face_model(directory, params.device)
    tokenizer = FactTokenizer(
        read_tokenizer(directory, model.config.vocab_size), end_of_text(model)
    )
    summary = []
    with checksummed_directory(Path("generations") / run) as output:
        for name in PROBLEM_SETS:
            problems = read_kept(PROBLEMS / f"{name}.jsonl", AskedQuestion)
            generations = answer(
                model, tokenizer, problems, params, f"generate {run} {name}", threads
            )
            write_generations(output / f"{name}.jsonl", generations)
            ends = Counter(generation.ended for generation in generations)
            summary.append(
                f"{name} " + ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
            )
    print(f"generate {run}: {'; '.join(summary)}")


def answer(
    model: GPT2LMHeadModel,
    tokenizer: FactTokenizer,
    problems: list[AskedQuestion],
    params: GenerateParams,
    label: str,
    threads: SideBySide,
) -> list[Generation]:
    """Return an answer to each problem, in order.

    A problem whose prompt leaves no room in the context for `params.new_tokens` gets no answer: it
    ends as `too_long`.
    """
    prompts = [prompt_ids(tokenizer, problem.question) for problem in problems]
    room = model.config.n_positions - params.new_tokens
    asked = [place for place, prompt in enumerate(prompts) if len(prompt) <= room]
    found = continue_greedily(
        model,
        [prompts[place] for place in asked],
        params.new_tokens,
        params.batch_rows,
        label,
        threads,
    )
    # Place of a problem → its continuation.
    answers = dict(zip(asked, found, strict=True))
    generations = []
    for place, (problem, prompt) in enumerate(zip(problems, prompts, strict=True)):
        ids, stopped = answers.get(place, ([], False))
        ended: Ended = "too_long" if place not in answers else "stopped" if stopped else "cut"
        segments = tokenizer.segments(ids)
        lengths = len(prompt), len(ids), params.new_tokens
        generations.append(
            Generation(problem.question, problem.answer, problem.cluster, *lengths, ended, segments)
        )
    return generations


if __name__ == "__main__":
    run_stage(main)
