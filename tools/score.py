"""Score any GPT-2 on HellaSwag as the evaluate stage does.

    python -m tools.score exports/baseline/seed_1337/step_3200
    python -m tools.score gpt2 --output /tmp/gpt2
    python -m tools.score checkpoints/baseline/.seed_1337.scratch/*/checkpoints/step_800
    torchrun --nproc-per-node 8 -m tools.score gpt2-xl --device cuda --dtype bfloat16

The model is a Hugging Face directory, one of our checkpoints, or a name on the hub. By default it
scores all 10,042 items (`dvc repro fetch` downloads them) in both wordings. For another task, add
`--items data/raw/tasks/arc_easy.jsonl --wordings lm_eval`.

With portable kernels, the default on a CPU in float32, it writes the same bytes on every x86-64
processor with AVX2. For an export and items of this repository, these are the evaluate stage's.
OpenAI's gpt2 has acc 0.2859 and acc_norm 0.2955 in the wording of the reference script, 0.2892 and
0.3114 in that of lm-evaluation-harness. Reads the model and the items. Writes nothing without
--output.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import PipelineError, run_stage
from common.files import CHECKSUMS, write_json, write_jsonl
from model.data.items import Item, read_items, read_stored_items
from model.numerics.processor import warning
from model.runtime.cores import cores
from model.tasks.item_scores import ItemScore, summarize
from model.tasks.item_selection.sample import sample_items
from model.tasks.wordings import WORDINGS
from pipeline.terminal.command_lines import command_line
from tools.checkpoint_export import exported, is_checkpoint
from tools.command_numerics import add_kernels, chosen_kernels, positive, restart_for_kernels
from tools.model_copies import verified_copy

HELLASWAG = Path("data/raw/tasks/hellaswag.jsonl")


def main() -> None:
    options = _parser().parse_args()
    options.kernels = chosen_kernels(options.kernels, options.device, options.dtype)
    restart_for_kernels(options.kernels)
    try:
        score(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # `… | head` has read enough. Python flushes stdout once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def score(options: argparse.Namespace) -> None:
    import torch  # takes seconds, for which --help need not wait

    from model.hugging_face.directory import read_hugging_face_directory
    from model.numerics.setting import set_numerics
    from model.params.numerics import NumericsParams
    from model.runtime.distributed import joined_processes
    from model.runtime.torch_setup import keep_freed_memory, require_dtype
    from model.scoring.scorer import Scorer

    if options.device == "cuda" and not torch.cuda.is_available():
        raise PipelineError(f"--device: cuda is not available to torch {torch.__version__} here")
    require_dtype("--dtype", options.dtype, options.device)
    other_bytes = warning() if options.kernels == "portable" else None
    if other_bytes and os.environ.get("RANK", "0") == "0":
        print(other_bytes, file=sys.stderr)
    threads = options.threads if options.kernels == "native" else None
    numerics = set_numerics(NumericsParams(kernels=options.kernels, threads=threads))
    numerics = numerics._replace(threads=options.threads)
    keep_freed_memory()
    items = _read_items(options.items)
    if options.count is not None and options.count > len(items):
        raise PipelineError(
            f"--count: {options.count}, where {options.items} has {len(items)} items"
        )
    items = sample_items(items, options.count or "all", options.seed, "--count")
    if options.output:
        try:
            options.output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PipelineError(
                f"--output: {options.output} cannot be made a directory ({error.strerror})"
            ) from None
    with joined_processes() as processes, _directory(options.model, options.revision) as directory:
        gpt2 = read_hugging_face_directory(directory)
        scorer = Scorer(
            gpt2, options.device, options.dtype, numerics, options.batch_tokens, processes
        )
        scores = {name: scorer.score(items, WORDINGS[name], name) for name in options.wordings}
        if processes.rank == 0:
            _report(scores, options.output)


def _parser() -> argparse.ArgumentParser:
    parser = command_line("tools.score", __doc__)
    parser.add_argument(
        "model",
        help=(
            "a directory with config.json, model.safetensors (or its shards) and tokenizer.json, or"
            " a name on the hub"
        ),
    )
    parser.add_argument("--revision", help="commit, branch or tag, for a name on the hub")
    parser.add_argument(
        "--items",
        type=Path,
        default=HELLASWAG,
        help="JSON lines in HellaSwag's schema, or a file of data/raw/tasks",
    )
    parser.add_argument(
        "--count", type=positive, help="number of items, sampled by --seed (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--wordings", nargs="+", choices=WORDINGS, default=list(WORDINGS))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    add_kernels(parser)
    parser.add_argument(
        "--threads",
        type=positive,
        default=_cores(),
        help="batches computed at a time on a CPU; changes no figure",
    )
    parser.add_argument(
        "--batch-tokens",
        type=positive,
        default=8192,
        help="padded tokens of a batch; changes no figure",
    )
    parser.add_argument(
        "--output", type=Path, help="a directory for evaluation.json and the scores of each item"
    )
    return parser


def _cores() -> int:
    """Return this process's share of the cores."""
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@contextmanager
def _directory(model: str, revision: str | None) -> Iterator[Path]:
    """Yield the model's directory; for a checkpoint, that of a temporary export."""
    directory = Path(model)
    if not (directory.is_dir() and is_checkpoint(directory)):
        yield _hugging_face_directory(model, revision)
        return
    with exported(directory) as (export, gate):
        if os.environ.get("RANK", "0") == "0":
            print(gate, file=sys.stderr)
        yield export


def _hugging_face_directory(model: str, revision: str | None) -> Path:
    """Return the model's directory, checked against SHA256SUMS if it has one, as an export does."""
    directory = Path(model)
    if directory.is_dir():
        return verified_copy(directory)
    if directory.is_absolute():
        raise PipelineError(f"{model}: no such directory")
    from huggingface_hub import snapshot_download

    from model.hugging_face.directory import PATTERNS

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=[*PATTERNS]))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PipelineError(
            f"{model}: no directory, and the Hugging Face hub and its cache do not give it:"
            f" {reason}"
        ) from None


def _read_items(path: Path) -> list[Item]:
    try:
        if (path.parent / CHECKSUMS).is_file():
            return read_stored_items(path)
        with open(path, encoding="utf-8") as file:
            items = read_items(path, [json.loads(line) for line in file])
        if not items:
            raise ValueError("it is empty")
        return items
    except (OSError, RecursionError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: no items to be read ({error}); dvc repro fetch brings HellaSwag's"
        ) from None


def _report(scores: dict[str, list[ItemScore]], output: Path | None) -> None:
    metrics = {name: summarize(rows, WORDINGS[name]) for name, rows in scores.items()}
    if output:
        for name, rows in scores.items():
            write_jsonl(output / f"{name}.jsonl", [row._asdict() for row in rows])
        write_json(output / "evaluation.json", metrics)
    for name, metric in metrics.items():
        for accuracy in ("acc", "acc_norm"):
            rate = metric[accuracy]
            low, high = rate["interval_95"]
            print(
                f"{name} {accuracy} {rate['rate']:.4f} [{low:.4f}, {high:.4f}] ({rate['correct']}"
                f" of {rate['total']})"
            )


if __name__ == "__main__":
    run_stage(main)
