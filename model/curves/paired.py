"""Paired differences over training: how far each condition is from the first at each step.

Both conditions are measured on the same held-out documents and items.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from common.errors import PipelineError
from model.curves.charts import Chart
from model.curves.points import TRAIN, Curves, Point
from model.results.markdown_table import csv_bytes


class Difference(NamedTuple):
    """One difference from the first condition, at one step; mean over seeds."""

    # The name of the chart whose figure it is.
    chart: str
    figure: str
    unit: str
    condition: str
    step: int
    tokens: int
    original_bytes: int
    difference: float
    # The 95 % interval and whether the difference is significant, as the stage `compare` found.
    # None between checkpoints, where no outcomes by document are kept.
    low: float | None
    high: float | None
    differs: bool | None


class Compared(NamedTuple):
    """The result of the stage `compare` for one figure at one step."""

    difference: float
    low: float
    high: float
    differs: bool


# Keys: step, the figure's name among the comparisons, condition.
Comparisons = dict[tuple[int, str, str], Compared]


def read_comparisons(path: Path) -> Comparisons:
    """Read the comparisons of single checkpoints from differences.csv.

    Raises PipelineError, which names the file, if it is damaged.
    """
    found: Comparisons = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                # "step 500" is a checkpoint; "fine-tuned" and "mean of 9 checkpoints" are not.
                word, _, step = row["model"].partition(" ")
                if word == "step":
                    values = [float(row[name]) for name in ("difference", "low", "high")]
                    key = (int(step), row["figure"], row["condition"])
                    found[key] = Compared(values[0], values[1], values[2], row["differs"] == "yes")
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: not the compare stage's ({error!r}); run dvc repro compare"
        ) from None
    return found


def paired_differences(
    charts: Sequence[Chart], points: Curves, conditions: list[str], comparisons: Comparisons
) -> list[Difference]:
    """Return the differences of every chart that is compared, by chart, condition and step.

    Steps that only one of the two conditions has are left out.
    """
    first, *others = conditions
    found = []
    for chart in charts:
        held_out = [point for point in points[chart.name] if point.split != TRAIN]
        start = _by_step(held_out, first)
        for condition in others if chart.compared else []:
            for step, mine in _by_step(held_out, condition).items():
                if step in start:
                    compared = comparisons.get((step, chart.compared, condition))
                    found.append(_difference(chart, start[step], mine, compared))
    return found


def _by_step(points: list[Point], condition: str) -> dict[int, list[Point]]:
    """Return the condition's points, one for each seed, by step in order."""
    steps: dict[int, list[Point]] = {}
    for point in points:
        if point.condition == condition:
            steps.setdefault(point.step, []).append(point)
    return dict(sorted(steps.items()))


def _difference(
    chart: Chart, first: list[Point], other: list[Point], compared: Compared | None
) -> Difference:
    # Used where `compare` has no result: the difference of the means over seeds.
    apart = fmean(point.value for point in other) - fmean(point.value for point in first)
    return Difference(
        chart.name,
        chart.table_title or chart.title,
        chart.y_label,
        other[0].condition,
        other[0].step,
        other[0].tokens or 0,
        round(fmean(point.original_bytes or 0 for point in other)),
        *((apart, None, None, None) if compared is None else compared),
    )


def paired_csv(differences: Sequence[Difference]) -> bytes:
    """Return the differences as CSV for a chart; columns are the fields of Difference."""
    words = {True: "yes", False: "no", None: None}
    return csv_bytes(
        Difference._fields, ([*each[:-1], words[each.differs]] for each in differences)
    )
