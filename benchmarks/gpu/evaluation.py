"""The part `evaluation`: HellaSwag at 124M, ours and lm-evaluation-harness in alternation.

Both score the same random GPT-2 on the same items in lm-evaluation-harness's wording, in float32
and in bfloat16. The harness has the batch size that is fastest in a trial.
"""

import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.scoring import Worker, random_gpt2

REPOSITORY = Path(__file__).resolve().parents[2]
REAL = (REPOSITORY / "data/items/hellaswag.jsonl", REPOSITORY / "data/raw/tasks/hellaswag.jsonl")
ROUNDS = 3
# Log-likelihoods of the two differ by rounding; whole endings have about 40 tokens.
TOLERANCE = {"float32": 0.02, "bfloat16": 3.0}
# Words of a context and of an ending of the real items: 5th, 50th and 95th percentile.
_CONTEXT_WORDS, _ENDING_WORDS = (11, 42, 86), (5, 20, 43)


def measure(rehearse: bool, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return items a second of both, their ratios, and how far log-likelihoods differ."""
    count, sizes = (8, (1, 4)) if rehearse else (1000, (32, 64, 128, 256))
    device = "cpu" if rehearse else "cuda"
    with tempfile.TemporaryDirectory() as folder:
        directory, items_file = Path(folder) / "gpt2", Path(folder) / "items.jsonl"
        directory.mkdir()
        size = {"n_layer": 2, "n_head": 2, "n_embd": 32} if rehearse else {}
        random_gpt2(directory, **size)
        origin = _write_items(items_file, count)
        found: dict[str, Any] = {"items": count, "items_from": origin}
        for dtype in ("float32", "bfloat16"):
            arms = {
                name: Worker(name, directory, os.cpu_count() or 1, device, dtype, items_file)
                for name in ("native", "lm-eval")
            }
            found[dtype] = _compared(arms, list(range(count)), sizes, dtype)
            keep(found)
            for worker in arms.values():
                worker.process.stdin.close()
                worker.process.wait()
    return found


def _compared(
    arms: dict[str, Worker], items: list[int], sizes: tuple[int, ...], dtype: str
) -> dict[str, Any]:
    trial = items[: max(4, len(items) // 4)]
    for worker in arms.values():  # once without counting
        worker.ask(trial, "lm_eval", sizes[0])
    rates = {
        size: len(trial) / arms["lm-eval"].ask(trial, "lm_eval", size)["seconds"] for size in sizes
    }
    best = max(rates, key=lambda size: rates[size])
    seconds_of: dict[str, list[float]] = {name: [] for name in arms}
    for _ in range(ROUNDS):
        answers = {name: worker.ask(items, "lm_eval", best) for name, worker in arms.items()}
        for name, answer in answers.items():
            seconds_of[name].append(answer["seconds"])
    ours, theirs = (answers[name]["nats"] for name in ("native", "lm-eval"))
    difference = max(
        abs(left - right)
        for one, other in zip(ours, theirs, strict=True)
        for left, right in zip(one, other, strict=True)
    )
    if not difference <= TOLERANCE[dtype]:
        sys.exit(f"error: evaluation: {dtype} log-likelihoods differ by {difference} nats")
    same = sum(
        one.index(min(one)) == other.index(min(other))
        for one, other in zip(ours, theirs, strict=True)
    )
    ratios = [their / our for our, their in zip(*seconds_of.values(), strict=True)]
    return {
        "items_per_second": round(len(items) / statistics.median(seconds_of["native"]), 1),
        "lm_eval_items_per_second": round(len(items) / statistics.median(seconds_of["lm-eval"]), 1),
        "lm_eval_batch_size": best,
        "ratio": [round(value, 3) for value in (statistics.median(ratios), *_range(ratios))],
        "max_abs_nats_difference": difference,
        "same_predictions": f"{same} of {len(items)}",
        "memory_mib": {name: round(answer["memory"]) for name, answer in answers.items()},
    }


def _range(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def _write_items(path: Path, count: int) -> str:
    """Write HellaSwag's items, or random words of their lengths; return which."""
    known = [each.read_text().splitlines() for each in REAL if each.is_file()]
    enough = next((lines for lines in known if len(lines) >= count), None)
    if enough:
        lines = random.Random(0).sample(enough, count)
        path.write_text("".join(f"{line}\n" for line in lines))
        return "HellaSwag"
    generator = random.Random(0)
    words = ["the", "water", "hand", "quickly", "machine", "begins", "to", "turn", "around", "is"]

    def text(lengths: tuple[int, int, int]) -> str:
        length = round(generator.triangular(lengths[0], lengths[2], lengths[1]))
        return " ".join(generator.choices(words, k=length))

    rows = [
        {
            "ind": number,
            "ctx": text(_CONTEXT_WORDS),
            "endings": [f"{text(_ENDING_WORDS)}." for _ in range(4)],
            "label": 0,
            "source_id": f"source {number}",
        }
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "random words of HellaSwag's lengths"
