"""The PNG of two checks: exports agree with their checkpoints, and fact tokens are used."""

from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from model.curves.charts import PARITY, USAGE
from model.curves.fact_usage import Usage
from model.curves.panels import (
    SEED_STYLE,
    TOLERANCE_STYLE,
    condition_handles,
    draw_chart,
    legend_columns,
    look,
    picture,
)
from model.curves.parity import PARITY_FLOOR
from model.curves.points import Point
from model.curves.style import GREY


def draw_evidence(
    path: Path,
    parity: list[Point],
    tolerance: float | None,
    usages: list[Usage],
    conditions: list[str],
) -> None:
    """Draw the parity of each checkpoint's export, and beside it how much fact tokens are used.

    `tolerance` is the export gate's, drawn as a line; None draws no line.
    """
    wheres = list(dict.fromkeys(usage.where for usage in usages))
    # 12 inches wide; the height grows with the number of bars.
    with picture(path, 12, max(4.0, 1.3 + len(wheres) * (0.12 + 0.16 * len(conditions)))) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(4, 5))
        _draw_parity(left, parity, tolerance, conditions)
        _draw_usage(right, usages, wheres, conditions)
        legend = _legend(parity, tolerance, conditions)
        figure.legend(
            list(legend.values()),
            list(legend),
            loc="outside lower center",
            ncols=legend_columns(list(legend)),
            handler_map={tuple: HandlerTuple(ndivide=None)},
            handlelength=3,
        )
        title = "Exports against their checkpoints, and how much the facts' tokens are used"
        figure.suptitle(title, x=0.01, ha="left", fontsize=12)


def _legend(parity: list[Point], tolerance: float | None, conditions: list[str]) -> dict[str, Any]:
    """Return the legend's handles by label; each condition has a line and a bar."""
    bars = [Patch(**_bar(number)) for number in range(len(conditions))]
    lines = condition_handles(conditions, conditions)
    legend: dict[str, Any] = dict(zip(conditions, zip(lines, bars, strict=True), strict=True))
    if tolerance is not None:
        legend[f"the gate's tolerance ({tolerance:g})"] = Line2D([], [], **TOLERANCE_STYLE)
    seeds = len({point.seed for point in parity})
    if seeds > 1:
        legend[f"faint: each of {seeds} seeds"] = Line2D([], [], color=GREY, **SEED_STYLE)
        legend["lowest to highest of the seeds"] = Line2D([], [], color=GREY, linewidth=1)
    return legend


def _draw_parity(
    axis: Axes, points: list[Point], tolerance: float | None, conditions: list[str]
) -> None:
    """Draw the exports' parity against tokens, with the gate's tolerance as a line."""
    draw_chart(axis, PARITY, "tokens", points, conditions, conditions)
    axis.set_title(PARITY.title, loc="left")
    values = [point.value for point in points]
    if tolerance is not None:
        axis.axhline(tolerance, **TOLERANCE_STYLE)
        values.append(tolerance)
    # Half a decade of room at both ends of the logarithmic axis.
    axis.set_ylim(min(values) / 3, max(values) * 3)
    if any(point.value <= PARITY_FLOOR for point in points):
        words = f"no difference is drawn at {PARITY_FLOOR:g}"
        axis.text(0.02, 0.02, words, transform=axis.transAxes, color=GREY)


def _draw_usage(axis: Axes, usages: list[Usage], wheres: list[str], conditions: list[str]) -> None:
    """Draw a bar for each condition at each place: the mean of its seeds, with its numbers beside.

    The axis is linear because the baseline's values are 0. Shares too small to see can be read from
    the numbers.
    """
    # The bars of one place fill 0.8 of the room between two places.
    height = 0.8 / len(conditions)
    for number, condition in enumerate(conditions):
        for row, where in enumerate(wheres):
            mine = [each for each in usages if (each.condition, each.where) == (condition, where)]
            if mine:
                place, shares = row + (number + 0.5) * height - 0.4, [usage.share for usage in mine]
                axis.barh(place, fmean(shares), height * 0.9, **_bar(number))
                if len(mine) > 1:
                    axis.plot([min(shares), max(shares)], [place, place], color=GREY, linewidth=1)
                axis.text(max(shares) + 0.01, place, _numbers(mine), va="center", fontsize=8)
    axis.set_yticks(range(len(wheres)), [where.replace(": ", ":\n") for where in wheres])
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(wheres) - 0.4, -0.6)
    # Beyond 1 there is room for the numbers of a full bar.
    axis.set_xlim(0, 1.42)
    axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("share")
    axis.set_title(USAGE.title, loc="left")


def _bar(number: int) -> dict[str, Any]:
    colours = {"facecolor": look(number).colour, "edgecolor": "white"}
    return {**colours, "hatch": look(number).hatch, "linewidth": 0}


def _numbers(usages: list[Usage]) -> str:
    """Return the numbers beside a bar: "2.5 %: 25 of 1,000", or "2.5 % (2.1 to 2.8)" of seeds."""
    shares = [100 * usage.share for usage in usages]
    if len(usages) == 1:
        [usage] = usages
        rate = f"{shares[0]:.3g} %: {usage.facts:,}" if usage.facts else "0"
        return f"{rate} of {usage.total:,}"
    if not any(shares):
        return "0"
    return f"{fmean(shares):.3g} % ({min(shares):.3g} to {max(shares):.3g})"
