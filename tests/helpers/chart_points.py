"""Points of two conditions for every chart."""

from pathlib import Path

from demo_charts import CURVES

from model.curves.all_figures import draw_training
from model.curves.points import Point

CONDITIONS = ["baseline", "mul_tokens"]


def points(seeds=(1, 2)) -> dict[str, list[Point]]:
    """Return points of two conditions at steps 5 and 10; training is 0.1 below validation."""
    both, training = ("train", "val"), ("train",)
    splits = {
        "loss": both,
        "bits_per_byte": both,
        "gradient_norm": training,
        "learning_rate": training,
    }
    return {
        chart.name: [
            Point(
                *(condition, seed, split, step, 20 * step, 60 * step),
                round(0.3 + seed / 100 - 0.1 * (split == "train") - step / 1000, 4),
                *((0.2, 0.4, 0.25) if chart.is_accuracy else ()),
            )
            for condition in CONDITIONS
            for seed in seeds
            for split in splits.get(chart.name, ("",))
            for step in (5, 10)
        ]
        for chart in CURVES
    }


def training_picture(path: Path, curves: dict[str, list[Point]]) -> bytes:
    draw_training(path, curves, CONDITIONS, "Title")
    return path.read_bytes()
