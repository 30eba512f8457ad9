"""Ask a model: an export, a fine-tuned model, a checkpoint, or a GPT-2 in the hub's local cache.

    python -m tools.ask exports/baseline/seed_1337/step_3200 "Water is made of"
    python -m tools.ask sft/baseline/seed_1337/step_3200 "What is 6 × 9?" "What is 7 × 8?"
    python -m tools.ask sft/baseline/seed_1337/step_3200
    python -m tools.ask gpt2 "Water is" --temperature 0.8 --top-p 0.9 --seed 1 --tokens 40
    python -m tools.ask exports/baseline/seed_1337/step_800 --file prompts.txt --json

A fine-tuned model answers in the chat format; any other model continues the text. Without a prompt,
the command starts a conversation in the terminal: Ctrl-D ends it, Ctrl-C stops an answer. A
fine-tuned model then reads the earlier turns too, as far as they fit its context.

With portable kernels, greedy answers are those of the stage `generate`. A checkpoint is first
exported to a temporary directory, through the stage's gate. That needs params.yaml and data/tokens.
Reads the models and prompts. Writes nothing except that temporary directory.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from common.errors import PipelineError, run_stage
from model.numerics.processor import warning
from pipeline.terminal.command_lines import command_line
from tools.ask.models import find_model, load_model
from tools.ask.prompts import read_prompts, require_prompt
from tools.command_numerics import add_kernels, chosen_kernels, positive, restart_for_kernels

_INTERRUPTED = 130


def main() -> None:
    # "intermixed": prompts may also follow options.
    options = _parser().parse_intermixed_args()
    options.kernels = chosen_kernels(options.kernels, options.device)
    restart_for_kernels(options.kernels)
    try:
        ask(options)
    except KeyboardInterrupt:
        print()
        sys.exit(_INTERRUPTED)


def ask(options: argparse.Namespace) -> None:
    prompts = _prompts(options)
    is_conversation = not prompts
    if is_conversation and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise PipelineError("no prompt: give one or --file; a conversation needs a terminal")
    sampled = {"--top-k": options.top_k, "--top-p": options.top_p, "--seed": options.seed}
    needless = [name for name, value in sampled.items() if value is not None]
    if needless and not options.temperature:
        raise PipelineError(f"{needless[0]}: needs --temperature; without it answers are greedy")
    directories = {name: find_model(name) for name in [options.model, *options.compare]}

    import torch  # takes seconds, for which --help and wrong arguments need not wait

    from model.numerics.setting import set_numerics
    from model.params.numerics import NumericsParams
    from tools.ask.answers import Asked
    from tools.ask.sampling import Sampling
    from tools.ask.showing import write, write_json, write_prompt, write_side_by_side

    if options.device == "cuda" and not torch.cuda.is_available():
        raise PipelineError(f"--device: cuda is not available to torch {torch.__version__} here")
    if options.kernels == "portable" and (other_bytes := warning()):
        print(other_bytes, file=sys.stderr)
    threads = torch.get_num_threads() if options.kernels == "native" else None
    set_numerics(NumericsParams(kernels=options.kernels, threads=threads))
    models = [load_model(name, place, options.device) for name, place in directories.items()]
    if options.facts and any(model.chats for model in models):
        raise PipelineError("--facts: a fine-tuned model learned questions as text; leave it out")
    asked = [Asked(model, is_conversation, options.facts) for model in models]
    sampling = Sampling(options.temperature or 0.0, options.top_k, options.top_p, options.seed or 0)

    def answer_all(prompt: str) -> None:
        if options.json or len(asked) > 1:
            answers = [each.answer(prompt, options.tokens, sampling) for each in asked]
            if options.json:
                for model, answer in zip(models, answers, strict=True):
                    write_json(model.name, prompt, answer)
            else:
                write_side_by_side([model.name for model in models], answers)
        else:
            asked[0].answer(prompt, options.tokens, sampling, write)
            print(flush=True)

    if is_conversation:
        _converse(answer_all)
        return
    for number, prompt in enumerate(prompts, start=1):
        for each in asked:
            each.require_room(prompt, options.tokens, f"prompt {number}")
    for number, prompt in enumerate(prompts):
        if len(prompts) > 1 and not options.json:
            if number:
                print()
            write_prompt(prompt)
        answer_all(prompt)


def _converse(answer: Callable[[str], None]) -> None:
    """Answer typed lines until Ctrl-D; print one line to stderr for one that cannot be answered."""
    import readline  # noqa: F401  (gives `input` editing and a history, which is not saved)

    print("Ctrl-D ends, Ctrl-C stops an answer.", file=sys.stderr)
    for prompt in _typed():
        try:
            require_prompt(prompt, "prompt")
            answer(prompt)
        except KeyboardInterrupt:
            print()
        except PipelineError as error:
            print(f"error: {error}", file=sys.stderr)


def _typed() -> Iterator[str]:
    while True:
        try:
            line = input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:  # drop the line, as a shell does
            print()
            continue
        if line.strip():
            yield line


def _prompts(options: argparse.Namespace) -> list[str]:
    for number, prompt in enumerate(options.prompts, start=1):
        require_prompt(prompt, f"prompt {number}")
    if options.file is None:
        return list(options.prompts)
    return [*options.prompts, *read_prompts(options.file)]


def _parser() -> argparse.ArgumentParser:
    parser = command_line("tools.ask", __doc__)
    parser.add_argument("model", help="a directory, or a name in the hub's local cache")
    parser.add_argument("prompts", nargs="*", metavar="prompt")
    parser.add_argument(
        "--file", type=Path, help="prompts, one per line; in a .jsonl, each `prompt` or `question`"
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="ask these models too, side by side",
    )
    parser.add_argument(
        "--tokens",
        type=positive,
        help="at most this many new tokens (default: 96, or as many as the context has room for)",
    )
    parser.add_argument("--temperature", type=_temperature, help="sample (default: greedy)")
    parser.add_argument("--top-k", type=positive, help="sample from the K most likely tokens")
    parser.add_argument(
        "--top-p", type=_share, help="sample from the fewest tokens with a joint probability of P"
    )
    parser.add_argument(
        "--seed", type=_seed, help="of sampling, reset for each prompt (default: 0)"
    )
    parser.add_argument(
        "--facts",
        action="store_true",
        help="replace facts in the prompt by fact tokens, as in training documents",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON line for each answer")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    add_kernels(parser)
    return parser


def _temperature(text: str) -> float:
    return _number(text, 100.0, "a temperature")


def _share(text: str) -> float:
    return _number(text, 1.0, "a probability")


def _seed(text: str) -> int:
    """Return a seed that torch's generator accepts; otherwise stop before the model is loaded."""
    if not re.fullmatch("[0-9]{1,19}", text) or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed: a whole number, below 2^63")
    return int(text)


def _number(text: str, most: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}: above 0, at most {most:g}")
    return value


if __name__ == "__main__":
    run_stage(main)
