"""Generation: batches with padding against one prompt at a time, by the same `generate` of
transformers, in alternation.

    python -m benchmarks.generate
        the fine-tuned baseline's answers to GSM8K, which `make repro` leaves
    python -m benchmarks.generate --condition mul_tokens --set generated --threads 1

A round is a sample of the problems, which each way answers once; the first round does not count.
Both ways must give the same answers, or it stops. Then all problems are answered once, in batches,
as the generate stage does. The last line sums up.
"""

import argparse
import os
import random
import statistics
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

from common.files import read_jsonl, verified_directory
from common.sections import read_section
from model.hugging_face.directory import read_tokenizer
from model.hugging_face.loading import load_hugging_face_model
from model.params.generate import GenerateParams
from model.post_training.chat_format import prompt_ids
from model.post_training.decoding import Continuation, continue_greedily
from model.runtime.torch_setup import keep_freed_memory, set_deterministic
from model.tokens.export_tokenizer import FactTokenizer


def timed(
    model, prompts: list[list[int]], new_tokens: int, batch_rows: int
) -> tuple[float, list[Continuation]]:
    started = time.perf_counter()
    found = continue_greedily(model, prompts, new_tokens, batch_rows, "generate")
    return time.perf_counter() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--condition", default="baseline")
    parser.add_argument("--set", choices=["gsm8k", "generated"], default="gsm8k", dest="name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=64, help="problems in a round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    os.chdir(REPOSITORY)
    params = read_section("generate", GenerateParams)
    seed, step = read_section("seeds", list[int])[0], read_section("pretrain.max_steps", int)
    set_deterministic(options.threads)
    keep_freed_memory()
    directory = verified_directory(Path(f"sft/{options.condition}/seed_{seed}/step_{step}"))
    model = load_hugging_face_model(directory)
    tokenizer = FactTokenizer(
        read_tokenizer(directory, model.config.vocab_size), model.config.eos_token_id
    )
    problems = read_jsonl(Path(f"data/problems/{options.name}.jsonl"))
    prompts = [prompt_ids(tokenizer, problem["question"]) for problem in problems]
    asked = [
        prompt for prompt in prompts if len(prompt) + params.new_tokens <= model.config.n_positions
    ]
    seconds: dict[str, list[float]] = {"batches": [], "one by one": []}
    for number in range(options.rounds + 1):
        sample = random.Random(number).sample(asked, min(options.items, len(asked)))
        answers = {}
        for way, rows in (("batches", params.batch_rows), ("one by one", 1)):
            spent, answers[way] = timed(model, sample, params.new_tokens, rows)
            if number:
                seconds[way].append(spent)
        if answers["batches"] != answers["one by one"]:
            different = sum(one != other for one, other in zip(*answers.values(), strict=True))
            sys.exit(
                f"error: {different} of {len(sample)} answers differ between batches and one by one"
            )
    ratios = [alone / together for together, alone in zip(*seconds.values(), strict=True)]
    rates = {
        way: min(options.items, len(asked)) / statistics.median(times)
        for way, times in seconds.items()
    }
    whole, _ = timed(model, asked, params.new_tokens, params.batch_rows)
    print(
        f"generation: {options.name} on {options.threads} threads, at most {params.new_tokens}"
        f" tokens: {rates['batches']:.1f} answers/s in batches of {params.batch_rows},"
        f" {rates['one by one']:.1f} one by one, {statistics.median(ratios):.1f} ×"
        f" ({min(ratios):.1f} to {max(ratios):.1f}); {len(asked)} of {len(prompts)} in {whole:.1f}"
        " s, the others are too long"
    )


if __name__ == "__main__":
    main()
