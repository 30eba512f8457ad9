"""Compare the speed of generation: our batches against transformers' `generate` on single prompts.

    python -m benchmarks.generate
        the fine-tuned baseline's answers to GSM8K, after `make repro`
    python -m benchmarks.generate --condition mul_tokens --set generated --threads 1

Both compute with `numerics` of params.yaml, in alternation. A round is a sample of the problems,
which each answers once; the first round does not count. It stops if their answers differ. Then ours
answers all problems once, as the generate stage does. The last line is a summary.
"""

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

from common.files import read_jsonl, verified_directory
from common.sections import read_section
from model.runtime.cores import SHARE
from pipeline.seal.environment import library_variables


def timed(answer: Callable[[list], list], prompts: list[list[int]]) -> tuple[float, list]:
    started = time.perf_counter()
    found = answer(prompts)
    return time.perf_counter() - started, found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--condition", default="baseline")
    parser.add_argument("--set", choices=["gsm8k", "generated"], default="gsm8k", dest="name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=128, help="how many problems a round has")
    parser.add_argument(
        "--threads", type=int, help="threads of portable kernels (default: all cores)"
    )
    options = parser.parse_args()
    os.chdir(REPOSITORY)
    kernels = read_section("numerics.kernels", str)
    # numpy and torch read these when the imports below load them.
    os.environ.update(library_variables({"numerics.kernels": kernels}))
    if options.threads:
        os.environ[SHARE] = str(options.threads)
    import torch
    from transformers import GenerationConfig

    from model.hugging_face.directory import read_tokenizer
    from model.hugging_face.loading import load_hugging_face_model
    from model.numerics.setting import set_numerics
    from model.params.generate import GenerateParams
    from model.params.numerics import NumericsParams
    from model.post_training.chat_format import prompt_ids
    from model.post_training.decoding import Continuation, continue_greedily
    from model.runtime.torch_setup import keep_freed_memory
    from model.tokens.export_tokenizer import FactTokenizer

    params = read_section("generate", GenerateParams)
    seed, step = read_section("seeds", list[int])[0], read_section("pretrain.max_steps", int)
    numerics = set_numerics(read_section("numerics", NumericsParams))
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

    def side_by_side(prompts: list[list[int]]) -> list[Continuation]:
        rows, threads = params.batch_rows, numerics.side_by_side
        return continue_greedily(model, prompts, params.new_tokens, rows, "generate", threads)

    def one_by_one(prompts: list[list[int]]) -> list[Continuation]:
        last = model.config.eos_token_id
        settings = GenerationConfig(
            do_sample=False, max_new_tokens=params.new_tokens, eos_token_id=last, pad_token_id=last
        )
        found = []
        for prompt in prompts:
            ids = torch.tensor([prompt])
            mask = torch.ones_like(ids)
            [row] = model.generate(ids, attention_mask=mask, generation_config=settings).tolist()
            new = row[len(prompt) :]
            stopped = last in new
            found.append(Continuation(new[:-1] if stopped else new, stopped))
        return found

    ways = {"batches": side_by_side, "one by one": one_by_one}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(options.rounds + 1):
        sample = random.Random(number).sample(asked, min(options.items, len(asked)))
        answers = {}
        for way, answer in ways.items():
            spent, answers[way] = timed(answer, sample)
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
    whole, _ = timed(side_by_side, asked)
    print(
        f"generation: {options.name} on {numerics.threads} threads, at most {params.new_tokens}"
        f" tokens: {rates['batches']:.1f} answers/s in batches of {params.batch_rows},"
        f" {rates['one by one']:.1f} one by one, {statistics.median(ratios):.1f} ×"
        f" ({min(ratios):.1f} to {max(ratios):.1f}); {len(asked)} of {len(prompts)} in {whole:.1f}"
        " s, the others are too long"
    )


if __name__ == "__main__":
    main()
