"""The learning curves of all runs in one long table: a row for each figure of each run at each number of tokens."""

import csv
import io
from pathlib import Path
from typing import NamedTuple

from model.errors import PipelineError
from model.files import verified
from model.section import read_json

CHANCE = 0.25
# OpenAI's gpt2 under the reference script: karpathy/build-nanogpt, hellaswag.py.
GPT2_HELLASWAG_ACC_NORM = 0.2955


class Chart(NamedTuple):
    """What one chart shows; `reference` is OpenAI's gpt2 on it; losses per token stay out of the table."""

    name: str
    title: str
    y_label: str
    is_accuracy: bool = False
    reference: float | None = None
    in_table: bool = True


CHARTS = (
    Chart("train_loss", "Training loss, on its own tokens", "nats per token", in_table=False),
    Chart("val_loss", "Validation loss, on its own tokens", "nats per token", in_table=False),
    Chart("val_bits_per_byte", "Validation, natural text", "bits per byte"),
    Chart("hellaswag_acc_norm", "HellaSwag acc_norm", "accuracy", True, GPT2_HELLASWAG_ACC_NORM),
    Chart("hellaswag_gold_bits_per_byte", "HellaSwag, true endings", "bits per byte"),
    Chart("continuation_acc_norm", "Continuation acc_norm", "accuracy", True),
)


class Point(NamedTuple):
    """One point of one curve; `low` and `high` bound the 95 % interval of an accuracy and are empty elsewhere."""

    condition: str
    seed: int
    tokens: int
    value: float
    low: float | None = None
    high: float | None = None


Curves = dict[str, list[Point]]


def loss_points(directory: Path, condition: str, seed: int) -> tuple[Curves, dict[int, int]]:
    """Read one run's training.csv and validation.csv: its points by chart, and the tokens seen by each validated step."""
    points: Curves = {}
    for name, columns in (("training", ["train_loss"]), ("validation", ["val_loss", "val_bits_per_byte"])):
        path = verified(directory / f"{name}.csv")
        try:
            with open(path, encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            for column in columns:
                points[column] = [Point(condition, seed, int(row["tokens"]), float(row[column])) for row in rows]
            tokens = {int(row["step"]): int(row["tokens"]) for row in rows}
        except (OSError, KeyError, ValueError) as error:
            raise PipelineError(f"{path}: not a curve of the pretrain stage ({error!r}); run dvc repro pretrain") from None
    return points, tokens


def evaluation_points(path: Path, condition: str, seed: int, tokens: int) -> dict[str, Point]:
    """Read one evaluation.json into a point for each chart it feeds."""
    metrics = read_json(path, dict)
    points = {}
    try:
        for task in ("hellaswag", "continuation"):
            rate = metrics[task]["acc_norm"]
            points[f"{task}_acc_norm"] = Point(condition, seed, tokens, rate["rate"], *rate["interval_95"])
        gold = metrics["hellaswag"]["gold_bits_per_byte"]
    except (KeyError, TypeError) as error:
        raise PipelineError(f"{path}: not the evaluate stage's ({error!r}); run dvc repro evaluate") from None
    return {**points, "hellaswag_gold_bits_per_byte": Point(condition, seed, tokens, gold)}


def refuse_same_weights(paths: list[Path]) -> None:
    """Raise PipelineError where two of the exports that the parity.json files `paths` are of have the same weights.

    Two checkpoints or two conditions that are one network would make curves that agree for the wrong reason.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        weights = read_json(path, dict).get("weights_sha256")
        if not isinstance(weights, str):
            raise PipelineError(f"{path}: not the export stage's; run dvc repro export")
        if weights in seen:
            raise PipelineError(f"{seen[weights]} and {path}: the same weights exported twice; look at pretrain and export")
        seen[weights] = path


def results_table(chart: Chart, points: list[Point], conditions: list[str], at_tokens: dict[int, int]) -> str:
    """Return a chart's values at the checkpoints as a Markdown table, a row for each step and seed.

    `at_tokens` maps checkpoint steps to tokens.
    """
    values = {(point.condition, point.seed, point.tokens): point for point in points}
    lines = [
        f"**{chart.title}** ({chart.y_label})\n",
        "| step | tokens | seed | " + " | ".join(conditions) + " |",
        "|---:|---:|---:|" + "---:|" * len(conditions),
    ]
    for step, tokens in at_tokens.items():
        for seed in sorted({point.seed for point in points}):
            cells = [_cell(values[condition, seed, tokens]) for condition in conditions]
            lines.append(f"| {step} | {tokens:,} | {seed} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(point: Point) -> str:
    interval = "" if point.low is None else f" [{point.low:.3f}, {point.high:.3f}]"
    return f"{point.value:.4f}{interval}"


def chart_csv(chart: Chart, points: list[Point]) -> bytes:
    """Return a chart's points as CSV, with the reference lines as columns for the Vega-Lite template."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*Point._fields, "chance", "gpt2"])
    writer.writerows([*point, CHANCE if chart.is_accuracy else None, chart.reference] for point in points)
    return text.getvalue().encode()
