"""The rows of live.jsonl as training writes them, and a repository with a committed run."""

import json
from pathlib import Path

from model.curves.points import Point
from model.results.markdown_table import csv_bytes

PLACES = {
    "pretrain": "checkpoints/{condition}/.seed_{seed}.scratch/f00/live.jsonl",
    "sft": "sft/{condition}/seed_{seed}/.step_3200.scratch/f00/live.jsonl",
}


def training_row(step: int, loss: float, steps: int = 3200, **more) -> dict:
    row = {
        "kind": "training",
        "run": "pretrain baseline/seed_1337",
        "step": step,
        "steps": steps,
        "tokens": 512 * step,
        "original_bytes": 1655 * step,
        "learning_rate": 0.004,
        "gradient_norm": 0.8125,
        "train_loss": loss,
        "train_bits_per_byte": loss / 2,
        "loss_spikes": 0,
        "tokens_per_second": 32900.0,
        "mfu": None,
        "seconds_left": (steps - step) * 0.0156,
    }
    return {**row, **more}


def validation_row(step: int, loss: float, steps: int = 3200) -> dict:
    figures = {"val_loss": loss, "val_bits_per_byte": loss / 2, "val_drill_bits_per_byte": 1.0}
    return {"kind": "validation", "run": "", "step": step, "steps": steps, **figures}


def live_file(root: Path, stage: str = "pretrain", condition: str = "baseline", seed=1337) -> Path:
    return root / PLACES[stage].format(condition=condition, seed=seed)


def append(path: Path, *rows: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        file.write(b"".join(json.dumps(row).encode() + b"\n" for row in rows))


def write_committed(
    root: Path, chart: str, splits: dict[str, dict[int, float]], condition="baseline", seed=1337
) -> None:
    """Write plots/curves/CHART.csv as the stage `curves` does, with one run."""
    points = [
        Point(condition, seed, split, step, 512 * step, 1655 * step, value)
        for split, curve in splits.items()
        for step, value in curve.items()
    ]
    path = root / f"plots/curves/{chart}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ([*point, None, None] for point in points)
    path.write_bytes(csv_bytes([*Point._fields, "gpt2", "tolerance"], rows))
