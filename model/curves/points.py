"""The learning curves of all runs as long tables, one for each chart.

A row is a point: one figure of one run at one step.
"""

import csv
from pathlib import Path
from typing import NamedTuple

from common.errors import PipelineError
from common.files import verified
from common.sections import read_json
from model.curves.charts import Chart
from model.results.markdown_table import (
    Cell,
    Table,
    count,
    csv_bytes,
    headings,
    over_seeds,
    seed_cell,
    seed_heading,
)
from model.tasks.labels import task_figures
from model.tasks.table import Task

TRAIN, VAL = "train", "val"
# The pretrain stage's files: for each column, the chart that it feeds and the split on which it was
# measured.
_COLUMNS = {
    "training.csv": {
        "train_loss": ("loss", TRAIN),
        "train_bits_per_byte": ("bits_per_byte", TRAIN),
        "gradient_norm": ("gradient_norm", TRAIN),
        "learning_rate": ("learning_rate", TRAIN),
    },
    "validation.csv": {"val_loss": ("loss", VAL), "val_bits_per_byte": ("bits_per_byte", VAL)},
}


class Progress(NamedTuple):
    """How far training is: steps, tokens, and UTF-8 bytes of the original text of those tokens."""

    step: int
    tokens: int
    original_bytes: int


class Point(NamedTuple):
    """One point of one curve."""

    condition: str
    seed: int
    # "train" or "val" for the pretrain stage's figures, empty for scores of exports.
    split: str
    # Fine-tuning counts its own steps, and has neither tokens nor bytes.
    step: int
    tokens: int | None
    original_bytes: int | None
    value: float
    # Only for accuracies: the 95 % interval, and the accuracy of guessing.
    low: float | None = None
    high: float | None = None
    chance: float | None = None


# Points by the chart's name.
Curves = dict[str, list[Point]]


def loss_points(directory: Path, condition: str, seed: int) -> tuple[Curves, dict[int, Progress]]:
    """Read one run's training.csv and validation.csv.

    Return the points by chart, and how far training was at each validated step. Raises
    PipelineError, which names the file, if one is damaged or lacks a column.
    """
    points: Curves = {}
    for name, columns in _COLUMNS.items():
        path = verified(directory / name)
        progress: dict[int, Progress] = {}
        try:
            with open(path, encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    place = Progress(*(int(row[column]) for column in Progress._fields))
                    progress[place.step] = place
                    for column, (chart, split) in columns.items():
                        points.setdefault(chart, []).append(
                            Point(condition, seed, split, *place, float(row[column]))
                        )
            if not progress:
                raise ValueError("no rows")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise PipelineError(
                f"{path}: not a curve of the pretrain stage ({error!r}); run dvc repro pretrain"
            ) from None
    # `progress` is that of validation.csv, which is read last.
    return points, progress


def fine_tuning_points(directory: Path, condition: str, seed: int) -> list[Point]:
    """Read one run's losses of the sft stage.

    Raises PipelineError, which names the file, if it is damaged or lacks a column.
    """
    path = verified(directory / "training.csv")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [(int(row["step"]), float(row["train_loss"])) for row in csv.DictReader(file)]
        if not rows:
            raise ValueError("no rows")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: not a curve of the sft stage ({error!r}); run dvc repro sft"
        ) from None
    return [Point(condition, seed, TRAIN, step, None, None, loss) for step, loss in rows]


def evaluation_points(
    path: Path, tasks: list[Task], condition: str, seed: int, place: Progress
) -> dict[str, Point]:
    """Read one evaluation.json into a point for each chart of `tasks`.

    Raises PipelineError if a figure is missing.
    """
    metrics = read_json(path, dict)
    points = {}
    try:
        for figure in task_figures(tasks):
            if figure.has_curve:
                value = metrics[figure.task][figure.metric]
                if figure.is_accuracy:
                    chance = metrics[figure.task]["chance"]
                    values = (value["rate"], *value["interval_95"], chance)
                else:
                    values = (value,)
                points[figure.name] = Point(condition, seed, "", *place, *values)
    except (KeyError, TypeError) as error:
        raise PipelineError(
            f"{path}: not the evaluate stage's ({error!r}); run dvc repro evaluate"
        ) from None
    return points


def results_table(
    chart: Chart, points: list[Point], conditions: list[str], at_tokens: dict[int, int]
) -> Table:
    """Return a chart's values at the checkpoints, a row for each step and seed.

    With several seeds each step also has a row of mean and standard deviation. `at_tokens` maps
    checkpoint steps to tokens. Values of the training split are left out.
    """
    values = {
        (point.condition, point.seed, point.step): point for point in points if point.split != TRAIN
    }
    seeds = sorted({point.seed for point in points})
    rows = []
    for step, tokens in at_tokens.items():
        labels = [Cell(str(step), step), count(tokens)]
        of_seeds = [[_cell(values[name, seed, step]) for name in conditions] for seed in seeds]
        rows += [
            [*labels, *seed_cell(seed, seeds), *cells]
            for seed, cells in zip(seeds, of_seeds, strict=True)
        ]
        rows += over_seeds(labels, of_seeds)
    columns = ["Step", "Tokens", *seed_heading(seeds), *headings(conditions)]
    return Table(chart.name, chart.table_title or chart.title, chart.y_label, columns, rows)


def _cell(point: Point) -> Cell:
    """Return "0.2955 [0.287, 0.304]", or the value alone if it has no interval."""
    if point.low is None or point.high is None:
        return Cell(f"{point.value:.4f}", point.value)
    interval = f"[{point.low:.3f}, {point.high:.3f}]"
    return Cell(
        f"{point.value:.4f} {interval}",
        {"rate": point.value, "interval_95": [point.low, point.high]},
    )


def chart_csv(chart: Chart, points: list[Point], tolerance: float | None = None) -> bytes:
    """Return a chart's points as CSV; the last two columns are reference lines.

    A Vega-Lite template draws lines from columns. `tolerance` is the export gate's, for the parity
    chart only.
    """
    lines = (chart.reference, tolerance if "tolerance" in chart.lines else None)
    return csv_bytes([*Point._fields, "gpt2", "tolerance"], ([*point, *lines] for point in points))
