"""One chart on matplotlib axes, and the legends of its lines, bands and reference lines."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, BinaryIO, NamedTuple

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from model.curves.charts import Chart
from model.curves.points import TRAIN, Point
from model.curves.style import COLOURS, GREY, MARKERS
from model.tasks.labels import CHANCE

# Keyword arguments of a Line2D.
Style = dict[str, Any]
# Matplotlib's name of a pattern, or its offset and the lengths of its dashes and gaps.
Dashes = str | tuple[float, Sequence[float]]

# In grey the colours are alike: held-out curves differ in marker too, training's in dashes, bars
# in hatches.
_DASHES: Sequence[Dashes] = ("-", (0, (3.5, 1)), (0, (1, 1)), (0, (5, 1, 1, 1)))
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "----", "++++", "oooo", "||||")
# Any: matplotlib annotates the keys of rcParams one by one.
_SETTINGS: Any = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titleweight": "bold",
    "axes.titlesize": 10.5,
    "font.size": 9.5,
    "hatch.color": "white",
    "legend.frameon": False,
}
# Behind what is held out.
TRAIN_STYLE: Style = {"linewidth": 0.9, "zorder": 1.9}
# Hollow markers: conditions come close to each other.
STYLE: Style = {"linewidth": 1.6, "markersize": 5.5, "markerfacecolor": "none"}
SEED_STYLE: Style = {"linewidth": 0.7, "alpha": 0.4, "zorder": 1.8}
_BOUNDS_STYLE: Style = {"marker": "_", "markersize": 7, "linewidth": 1.2}
CHANCE_STYLE: Style = {"color": GREY, "linestyle": ":", "linewidth": 1.2}
GPT2_STYLE: Style = {"color": GREY, "linestyle": "--", "linewidth": 1.2}
TOLERANCE_STYLE: Style = {"color": GREY, "linestyle": "-.", "linewidth": 1.2}
_MOST_MARKERS = 20
_LEGEND = 165  # characters in a row of the legend
_SYMBOL = 8  # characters that an entry's line and the gap to the next take
_NOISY = 200  # points; more of them are a band, and the conditions must show through each other
_FEW_MARKERS = 8  # on a training curve, where conditions are more than colours
_BESIDE = 8  # points, from one condition's bar to the next at the only step
_ALL_BARS = 90  # points, of all conditions' bars


class Look(NamedTuple):
    """How a condition is drawn: any two of 63 differ in colour or marker, and colour or hatch."""

    colour: str
    marker: str
    dashes: Dashes
    hatch: str


def look(number: int) -> Look:
    """Return the look of condition `number`, which is counted from 0."""
    return Look(
        COLOURS[number % len(COLOURS)],
        MARKERS[number % len(MARKERS)],
        _DASHES[number % len(_DASHES)],
        _HATCHES[number % len(_HATCHES)],
    )


class Place(NamedTuple):
    """A place of a curve over all seeds; `low` and `high` are None without interval or other
    seed.
    """

    x: float
    value: float
    low: float | None
    high: float | None


@contextmanager
def picture(file: Path | BinaryIO, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure, sizes in inches; write it as PNG, the same bytes for the same
    drawing.
    """
    with mpl.rc_context():
        mpl.rcdefaults()  # a reader's own matplotlibrc is no input
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
        yield figure
        # Without Software the file does not depend on how matplotlib calls itself.
        # Not savefig, which lays everything out and draws it twice.
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def over_seeds(points: Sequence[Point], x: str) -> list[Place]:
    """Return a curve's means over its seeds by step, with the lowest low and the highest high.

    `points` are of one condition and split, `x` is a key of X_LABELS.
    """
    by_step: dict[int, list[Point]] = {}
    for point in points:
        by_step.setdefault(point.step, []).append(point)
    places = []
    for _, same in sorted(by_step.items()):
        lows = [p.value if p.low is None else p.low for p in same]
        highs = [p.value if p.high is None else p.high for p in same]
        has_band = len(same) > 1 or same[0].low is not None
        band = (min(lows), max(highs)) if has_band else (None, None)
        places.append(
            Place(fmean(getattr(p, x) for p in same), fmean(p.value for p in same), *band)
        )
    return places


def draw_chart(
    axis: Axes,
    chart: Chart,
    x: str,
    points: Sequence[Point],
    conditions: list[str],
    shown: list[str],
) -> None:
    """Draw a chart's `points` of the conditions `shown` against `x`.

    Colours are those of all `conditions`. Of one step there is no curve: each condition has a
    marker, a bar in place of the band, and a dot for each of several seeds. Where the whole chart
    is of one step, the conditions stand beside each other.
    """
    beside = min(_BESIDE, _ALL_BARS / len(shown)) if _is_one_step(points) else 0
    for number, condition in enumerate(conditions):
        mine = [point for point in points if point.condition == condition and condition in shown]
        for split in sorted({point.split for point in mine}):
            curve = [point for point in mine if point.split == split]
            place = shown.index(condition)
            if _is_one_step(curve):
                _draw_step(axis, curve, x, number, beside * (place - (len(shown) - 1) / 2))
            elif chart.is_shared and len(shown) > 1:
                # A curve's dashes are in the others' gaps, or the last one drawn would hide them.
                dashes = (5 * place, (5, 5 * (len(shown) - 1)))
                style = {"linewidth": STYLE["linewidth"], "linestyle": dashes}
                axis.plot(*_coordinates(over_seeds(curve, x)), color=look(number).colour, **style)
            else:
                _draw_curve(axis, curve, x, number, len(conditions))
    if chart.is_accuracy:
        axis.axhline(CHANCE, **CHANCE_STYLE)
    if chart.reference is not None:
        axis.axhline(chart.reference, **GPT2_STYLE)
    logarithmic = [getattr(point, x) for point in points] if chart.log_x and x == "tokens" else []
    axis.set_xlabel(chart.x_label(x) + (", logarithmic" if logarithmic else ""))
    axis.set_ylabel(chart.y_label)
    axis.margins(x=0.02, y=0.08)
    _set_ticks(axis, logarithmic)
    if chart.log_y:
        axis.set_yscale("log")


def _is_one_step(points: Sequence[Point]) -> bool:
    return len({point.step for point in points}) == 1


def _draw_step(axis: Axes, points: list[Point], x: str, number: int, right: float) -> None:
    """Draw one condition's points of one step and split, moved right by so many 1/72 inches."""
    [mean] = over_seeds(points, x)
    marker = "." if points[0].split == TRAIN else look(number).marker
    parts: list[tuple[list[float], Style]] = [([mean.value], {**STYLE, "marker": marker})]
    if mean.low is not None and mean.high is not None:
        parts.append(([mean.low, mean.high], {**_BOUNDS_STYLE, "alpha": 0.8}))
    seeds = [point.value for point in points]
    if len(seeds) > 1:
        parts.append((seeds, {"marker": ".", "markersize": 5, "linestyle": "none", "alpha": 0.6}))
    move = ScaledTranslation(right / 72, 0, axis.figure.dpi_scale_trans)
    for values, style in parts:
        [line] = axis.plot([mean.x] * len(values), values, color=look(number).colour, **style)
        # Set after `plot`, which has measured the axis without it.
        line.set_transform(axis.transData + move)


def _draw_curve(axis: Axes, points: list[Point], x: str, number: int, conditions: int) -> None:
    """Draw one condition's curve of one split.

    It has a band, a faint line for each of several seeds, and their mean.
    """
    places, colour = over_seeds(points, x), look(number).colour
    seeds = sorted({point.seed for point in points})
    for seed in seeds if len(seeds) > 1 else []:
        own = over_seeds([point for point in points if point.seed == seed], x)
        axis.plot(*_coordinates(own), color=colour, **SEED_STYLE)
    if places[0].low is not None:
        x_values, low, high = (
            [getattr(place, field) for place in places] for field in ("x", "low", "high")
        )
        axis.fill_between(x_values, low, high, color=colour, alpha=0.15, linewidth=0)
    if points[0].split == TRAIN:
        style = _training_style(len(places), number, conditions)
    else:
        every = -(-len(places) // _MOST_MARKERS)
        style = {**STYLE, "marker": look(number).marker, "markevery": every}
    axis.plot(*_coordinates(places), color=colour, **style)


def _training_style(places: int, number: int, conditions: int) -> Style:
    """Return the style of a training curve of so many `places`: thin, pale where it is noisy."""
    is_clear = places <= _NOISY
    style: Style = {
        **TRAIN_STYLE,
        "markersize": 5,
        "marker": "." if places <= _MOST_MARKERS else None,
    }
    style |= {"alpha": 0.8, "linestyle": look(number).dashes} if is_clear else {"alpha": 0.35}
    if conditions > len(COLOURS):
        style |= {"marker": look(number).marker, "markersize": 4, "markerfacecolor": "none"}
        style["markevery"] = -(-places // _FEW_MARKERS)
    return style


def _coordinates(places: list[Place]) -> tuple[list[float], list[float]]:
    return [place.x for place in places], [place.value for place in places]


def _set_ticks(axis: Axes, logarithmic: list[int]) -> None:
    """Make the x axis linear, or logarithmic for these positive places."""
    axis.xaxis.set_major_locator(MaxNLocator(6))
    if logarithmic and min(logarithmic) == max(logarithmic):
        [only] = set(logarithmic)
        axis.set_xscale("log")
        axis.set_xlim(only / 2, only * 2)
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_locator(FixedLocator([only]))
    elif logarithmic:
        axis.set_xscale("log")
        axis.xaxis.set_minor_locator(NullLocator())
        ticks = round_numbers(min(logarithmic), max(logarithmic))
        axis.xaxis.set_major_locator(FixedLocator(ticks) if len(ticks) > 1 else MaxNLocator(4))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))


def round_numbers(low: float, high: float) -> list[float]:
    """Return round numbers from `low` to `high` for a logarithmic axis, few where it is long.

    Both are positive.
    """
    decades = math.log10(high / low)
    heads = (1, 2, 3, 5) if decades < 1.5 else (1, 3) if decades < 3 else (1,)
    exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    numbers = [head * 10.0**exponent for exponent in exponents for head in heads]
    return [number for number in numbers if low <= number <= high]


def condition_handles(conditions: list[str], shown: list[str]) -> list[Artist]:
    looks = {condition: look(number) for number, condition in enumerate(conditions)}
    return [
        Line2D([], [], color=each.colour, marker=each.marker, label=condition, **STYLE)
        for condition, each in looks.items()
        if condition in shown
    ]


def seed_handles(drawn: Sequence[tuple[Chart, Sequence[Point]]]) -> list[Artist]:
    """Return the legend's entries for faint lines, dots, bands and bars of these charts."""
    seeds = len({point.seed for _, points in drawn for point in points})
    accuracies = [points for chart, points in drawn if chart.is_accuracy]
    with_bounds = [points for _, points in drawn if points] if seeds > 1 else accuracies
    kinds = {"bar" if _is_one_step(points) else "band" for points in with_bounds}
    if not kinds:
        return []
    words = "95 % interval"
    if seeds > 1:
        words = "lowest to highest" + (", of their 95 % intervals too" if accuracies else "")
    label = f"{' or '.join(sorted(kinds))}: {words}"
    bounds: Artist
    if "band" in kinds:
        bounds = Patch(color=GREY, alpha=0.15, linewidth=0, label=label)
    else:
        bounds = Line2D([], [], color=GREY, label=label, **_BOUNDS_STYLE)
    said = f"faint: each of {seeds} seeds, around their mean"
    faint = Line2D([], [], color=GREY, label=said, **SEED_STYLE)
    return [faint, bounds] if seeds > 1 else [bounds]


def legend_columns(labels: Sequence[str]) -> int:
    """Return how many columns of these entries fit below 12 inches, in rows of like numbers."""
    rows = math.ceil(sum(len(label) + _SYMBOL for label in labels) / _LEGEND)
    return math.ceil(len(labels) / rows)
