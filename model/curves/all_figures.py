"""Learning curves as PNGs; the same points give the same bytes.

With differences, a figure is a grid of pairs of panels:

    curve of chart 1    curve of chart 2    curve of chart 3
    differences         differences         differences
    curve of chart 4    …
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from model.curves.charts import BY_ALL, TRAINING, Chart
from model.curves.paired import Difference
from model.curves.panels import (
    CHANCE_STYLE,
    GPT2_STYLE,
    STYLE,
    TRAIN_STYLE,
    ZERO_STYLE,
    Style,
    add_scales,
    chances,
    condition_handles,
    draw_chart,
    draw_differences,
    legend_columns,
    picture,
    seed_handles,
)
from model.curves.points import TRAIN, Curves, Point
from model.curves.style import GREY

# The share of all steps that does not determine an axis's range: a fresh network's loss is so high
# that the rest of the curve would look flat.
_BEGINNING = 0.1
_FIT = "from the first tenth of training on"
# Charts in a row.
_IN_A_ROW = 3
# Characters in a line of the title.
_TITLE = 135
# Heights of panels in inches, with the labels of their axes.
_INCHES = {"curve": 2.9, "differences": 1.35, "scales": 1.1}

# Both have a step.
_Place = TypeVar("_Place", Point, Difference)
_BY_NAME = {chart.name: chart for chart in TRAINING}


def draw_curves(
    path: Path,
    points: Curves,
    scores: Sequence[Chart],
    conditions: list[str],
    shown: list[str],
    title: str,
    differences: Sequence[Difference] = (),
) -> None:
    """Draw the held-out curves against tokens: bits per byte, and `scores`, the charts of tasks.

    Only the conditions `shown` are drawn; their colours follow from their places in `conditions`.
    Below each chart are the paired `differences` from the first condition, if there are any.
    """
    charts = [_BY_NAME["bits_per_byte"], *scores]
    points = {
        chart.name: [point for point in points[chart.name] if point.split != TRAIN]
        for chart in charts
    }
    # Rounded up.
    rows = -(-len(charts) // _IN_A_ROW)
    heights = [_INCHES["curve"], *([_INCHES["differences"]] if differences else [])]
    with picture(path, 12, 0.6 + rows * sum(heights)) as figure:
        grid = figure.add_gridspec(rows * len(heights), _IN_A_ROW, height_ratios=heights * rows)
        for number, chart in enumerate(charts):
            row, column = divmod(number, _IN_A_ROW)
            axis = figure.add_subplot(grid[row * len(heights), column])
            _draw(axis, chart, "tokens", points, conditions, shown)
            mine = [each for each in differences if each.chart == chart.name]
            if differences:
                below = figure.add_subplot(grid[row * len(heights) + 1, column], sharex=axis)
                _draw_below(axis, below, chart, mine, conditions)
        drawn = [(chart, points[chart.name]) for chart in charts]
        handles = _legend(drawn, conditions, shown)
        if differences:
            handles += _difference_handles(points, differences, conditions)
        figure.align_ylabels()
        _name(figure, handles, title, f"(the axis of bits per byte {_FIT})")


def draw_training(path: Path, points: Curves, conditions: list[str], title: str) -> None:
    """Draw each curve of training once, in two rows.

    The first row has losses against tokens, with further axes of steps and bytes. The second row
    has the other charts against steps.
    """
    rows = [
        [chart for chart in TRAINING if chart.x == BY_ALL],
        [chart for chart in TRAINING if chart.x != BY_ALL],
    ]
    heights = [_INCHES["curve"] + _INCHES["scales"], _INCHES["curve"]]
    with picture(path, 12, 0.6 + sum(heights)) as figure:
        parts: Any = figure.subfigures(2, height_ratios=heights)
        for part, charts in zip(parts, rows, strict=True):
            for axis, chart in zip(part.subplots(1, len(charts)), charts, strict=True):
                x = chart.x[0]
                _draw(axis, chart, x, points, conditions, conditions)
                if chart.x == BY_ALL:
                    add_scales(axis, points[chart.name])
        drawn = [(chart, points[chart.name]) for charts in rows for chart in charts]
        handles = _legend(drawn, conditions, conditions)
        _name(figure, handles, title, f"(axes of loss and bits per byte {_FIT})")


def _draw(
    axis: Axes,
    chart: Chart,
    x: str,
    points: Curves,
    conditions: list[str],
    shown: list[str],
) -> None:
    draw_chart(axis, chart, x, points[chart.name], conditions, shown)
    if chart.is_fitted:
        _fit(axis, points[chart.name])
    # The axis names the unit.
    axis.set_title(chart.title.removesuffix(f", {chart.y_label}"), loc="left")


def _draw_below(
    axis: Axes,
    below: Axes,
    chart: Chart,
    differences: Sequence[Difference],
    conditions: list[str],
) -> None:
    """Draw the differences of one chart in the panel below it; both share the axis of tokens."""
    # A fitted chart leaves out the beginning, and so do its differences.
    late = _late(differences) if chart.is_fitted else differences
    draw_differences(below, chart, "tokens", late, conditions)
    below.set_xlabel(axis.get_xlabel())
    axis.set_xlabel("")
    axis.tick_params(labelbottom=False)


def _name(figure: Figure, handles: list[Artist], title: str, note: str) -> None:
    """Add the legend below the figure, and the title with `note` above it."""
    columns = legend_columns([str(handle.get_label()) for handle in handles])
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    lines = textwrap.wrap(title, _TITLE)
    lines = [f"{title} {note}"] if len(f"{title} {note}") <= _TITLE else [*lines, note]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=12)


def _late(points: Sequence[_Place]) -> list[_Place]:
    """Return the points from the first tenth of training on."""
    first = _BEGINNING * max((point.step for point in points), default=0)
    return [point for point in points if point.step >= first]


def _fit(axis: Axes, points: list[Point]) -> None:
    """Fit the y axis to the points after the beginning, with 8 % of room at both ends."""
    late = [point.value for point in _late(points)]
    room = 0.08 * (max(late) - min(late))
    if room:
        axis.set_ylim(min(late) - room, max(late) + room)


def _difference_handles(
    points: Curves, differences: Sequence[Difference], conditions: list[str]
) -> list[Artist]:
    """Return the legend's entries for the panels of differences."""
    words = f"lower panels: difference from {conditions[0]}, on the same items"
    handles: list[Artist] = [Line2D([], [], label=words, **ZERO_STYLE)]
    if any(each.differs for each in differences):
        seeds = len({point.seed for curve in points.values() for point in curve})
        words = "filled: significant" if seeds > 1 else "filled: by more than items explain"
        style: Style = {"color": GREY, "marker": "s", "markersize": 4.5, "linestyle": "none"}
        handles.append(Line2D([], [], label=words, **style))
    return handles


def _legend(
    drawn: list[tuple[Chart, list[Point]]], conditions: list[str], shown: list[str]
) -> list[Artist]:
    """Return the legend's entries: conditions, splits, seeds and intervals, reference lines."""
    charts = [chart for chart, _ in drawn]
    handles = condition_handles(conditions, shown)
    if any(point.split == TRAIN for _, points in drawn for point in points):
        thin = Line2D([], [], color=GREY, label="thin: training", alpha=0.8, **TRAIN_STYLE)
        thick = Line2D([], [], color=GREY, label="thick: held-out", linewidth=STYLE["linewidth"])
        handles += [thin, thick]
    handles += seed_handles(drawn)
    guessed = sorted({chance for _, points in drawn for chance in chances(points)})
    if guessed:
        value = f" ({guessed[0]:.4g})" if len(guessed) == 1 else ""
        handles.append(Line2D([], [], label=f"chance{value}", **CHANCE_STYLE))
    for reference in sorted({chart.reference for chart in charts if chart.reference is not None}):
        handles.append(Line2D([], [], label=f"OpenAI gpt2, 124M ({reference})", **GPT2_STYLE))
    return handles
