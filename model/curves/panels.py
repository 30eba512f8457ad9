"""Draw one chart on matplotlib axes, and make the legend of its lines, bars and reference lines.

Conditions A and B at a checkpoint of step 500:

           |
        |  B      marker   mean over seeds
        A  |      bar      95 % interval; with several seeds, lowest to highest
        |  |
    ----+--+--    A and B stand beside the place of step 500, so that no bar hides another
         500
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any, BinaryIO, Literal, NamedTuple

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axes._secondary_axes import SecondaryAxis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from model.curves.charts import X_LABELS, Chart
from model.curves.paired import Difference
from model.curves.points import TRAIN, Point
from model.curves.style import COLOURS, GREY, MARKERS

# Keyword arguments of a Line2D.
Style = dict[str, Any]
# Matplotlib's name of a pattern, or its offset and the lengths of its dashes and gaps.
Dashes = str | tuple[float, Sequence[float]]

# Printed in grey, colours look alike. So held-out curves also differ in marker, training curves in
# dashes, and bars in hatches.
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
# zorder below 2, matplotlib's default for lines: training curves lie behind held-out ones.
TRAIN_STYLE: Style = {"linewidth": 0.9, "zorder": 1.9}
# Hollow markers, since conditions come close to each other.
STYLE: Style = {"linewidth": 1.6, "markersize": 5.5, "markerfacecolor": "none"}
SEED_STYLE: Style = {"linewidth": 0.7, "alpha": 0.4, "zorder": 1.8}
_BOUNDS_STYLE: Style = {"marker": "_", "markersize": 5, "linewidth": 1.1, "alpha": 0.8}
ZERO_STYLE: Style = {"color": GREY, "linewidth": 0.9, "zorder": 1.7}
CHANCE_STYLE: Style = {"color": GREY, "linestyle": ":", "linewidth": 1.2}
GPT2_STYLE: Style = {"color": GREY, "linestyle": "--", "linewidth": 1.2}
TOLERANCE_STYLE: Style = {"color": GREY, "linestyle": "-.", "linewidth": 1.2}
# Markers on a held-out curve.
_MOST_MARKERS = 20
# Characters in a row of the legend, and those that an entry's line and the gap after it take.
_LEGEND = 158
_SYMBOL = 8
# A training curve of more points than this looks like a band; it is drawn pale, so that conditions
# show through each other.
_NOISY = 200
# Markers on a training curve if there are more conditions than colours.
_FEW_MARKERS = 8
# Distances in points, 1/72 inch: from one condition's bar to the next at the only step, from the
# first to the last bar, and from one bar to the next at one of several checkpoints.
_BESIDE = 8
_ALL_BARS = 90
_CLOSE = 4
# Conditions whose bytes a token differ by more than this share have no common axis of bytes.
_ALIKE = 0.05
# The place of the axis of bytes, as a share of the chart's height.
_BELOW = -0.23
# About the width of a panel's axis, in points.
_PANEL = 190


class Look(NamedTuple):
    """How a condition is drawn.

    Any two of 63 conditions differ in colour or marker, and in colour or hatch.
    """

    colour: str
    marker: str
    dashes: Dashes
    hatch: str


def look(number: int) -> Look:
    """Return the look of condition `number`, counted from 0."""
    return Look(
        COLOURS[number % len(COLOURS)],
        MARKERS[number % len(MARKERS)],
        _DASHES[number % len(_DASHES)],
        _HATCHES[number % len(_HATCHES)],
    )


class Place(NamedTuple):
    """One place of a curve: the mean over seeds and its bounds.

    `low` and `high` are None if there is neither an interval nor a second seed.
    """

    x: float
    value: float
    low: float | None
    high: float | None


@contextmanager
def picture(file: Path | BinaryIO, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of `width` by `height` inches, then write it as PNG to `file`.

    The same drawing gives the same bytes.
    """
    with mpl.rc_context():
        # Ignore the user's own matplotlibrc.
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
        yield figure
        # "Software": None leaves out matplotlib's name and version. print_png rather than savefig,
        # which lays out and draws everything twice.
        FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def over_seeds(points: Sequence[Point], x: str) -> list[Place]:
    """Return a curve's mean over seeds at each step, with the lowest low and the highest high.

    `points` are of one condition and split; `x` is a key of X_LABELS. A point without an interval
    counts as its own low and high.
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
    """Draw a chart's `points` of the conditions `shown` against `x`, a key of X_LABELS.

    Colours follow from places in `conditions`. A single step gives no curve: each condition has a
    marker, a bar for its bounds, and a dot for each of several seeds. At checkpoints, conditions
    stand beside each other, so that no bar hides another.
    """
    # Points (1/72 inch) from one condition to the next, 0 if they lie on each other.
    beside = spacing(chart, x, points, len(shown))
    for number, condition in enumerate(conditions):
        mine = [point for point in points if point.condition == condition and condition in shown]
        for split in sorted({point.split for point in mine}):
            curve = [point for point in mine if point.split == split]
            place = shown.index(condition)
            # Centred: three conditions stand at -beside, 0 and +beside.
            right = beside * (place - (len(shown) - 1) / 2)
            if _is_one_step(curve):
                right = right or _few_apart(place, len(shown))
                _draw_step(axis, curve, x, number, right)
            elif chart.may_coincide and len(shown) > 1:
                # Each curve's dashes of 5 points lie in the gaps of the others; otherwise the last
                # one drawn would hide an equal one.
                dashes = (5 * place, (5, 5 * (len(shown) - 1)))
                style = {"linewidth": STYLE["linewidth"], "linestyle": dashes}
                axis.plot(*_coordinates(over_seeds(curve, x)), color=look(number).colour, **style)
            else:
                _draw_curve(axis, curve, x, number, len(conditions), right)
    for chance in chances(points):
        axis.axhline(chance, **CHANCE_STYLE)
    if chart.reference is not None:
        axis.axhline(chart.reference, **GPT2_STYLE)
    logarithmic = [getattr(point, x) for point in points] if chart.log_x and x == "tokens" else []
    axis.set_xlabel(chart.x_label(x) + (", logarithmic" if logarithmic else ""))
    axis.set_ylabel(chart.y_label)
    is_held_out = any(point.split != TRAIN for point in points)
    axis.margins(x=_margin(len(shown)) if is_held_out else 0.02, y=0.08)
    _set_ticks(axis, logarithmic)
    if _is_one_step(points) and not logarithmic:
        axis.xaxis.set_major_locator(FixedLocator(sorted({getattr(each, x) for each in points})))
    if chart.log_y:
        axis.set_yscale("log")


def draw_differences(
    axis: Axes,
    chart: Chart,
    x: str,
    differences: Sequence[Difference],
    conditions: list[str],
) -> None:
    """Draw the paired differences of a chart's figure from the first condition, around zero.

    A bar is a 95 % interval. A filled marker is a significant difference.
    """
    axis.axhline(0, **ZERO_STYLE)
    # `conditions[0]` is the line at zero.
    compared = conditions[1:]
    beside = spacing(chart, x, differences, len(compared))
    for place, condition in enumerate(compared):
        mine = [each for each in differences if each.condition == condition]
        colour, marker = look(place + 1).colour, look(place + 1).marker
        right = beside * (place - (len(compared) - 1) / 2)
        xs, ys = [getattr(each, x) for each in mine], [each.difference for each in mine]
        _move(axis, axis.plot(xs, ys, linewidth=0.9, alpha=0.7, color=colour), right)
        for each in mine:
            style: Style = {"marker": marker, "markersize": 5.5, "linestyle": "none"}
            style["markerfacecolor"] = colour if each.differs else "white"
            at = getattr(each, x)
            parts = axis.plot([at], [each.difference], color=colour, **style)
            if each.low is None or each.high is None:
                _move(axis, parts, right)
            else:
                bounds = [each.low, each.high]
                parts += axis.plot([at, at], bounds, color=colour, zorder=1.9, **_BOUNDS_STYLE)
                _move(axis, parts, right or _few_apart(place, len(compared)))
    axis.set_ylabel("difference")
    axis.margins(x=_margin(len(conditions)), y=0.12)
    axis.yaxis.set_major_locator(MaxNLocator(4))


def _margin(shown: int) -> float:
    """Return the margin of an axis, as a share, that leaves room for `shown` bars at its ends."""
    return 0.02 + min(_CLOSE * shown, _ALL_BARS) / 2 / _PANEL


def _few_apart(place: int, shown: int) -> float:
    """Return how far to move condition `place`'s bar, in points, where curves are not moved."""
    return min(_CLOSE, _ALL_BARS / shown) * (place - (shown - 1) / 2)


def spacing(
    chart: Chart, x: str, points: Sequence[Point] | Sequence[Difference], shown: int
) -> float:
    """Return the distance between neighbouring conditions at one place, in points (1/72 inch).

    It is 0 for curves of training, which have no room between their points. Only checkpoints on a
    logarithmic axis, and a single step, have room.
    """
    if len({point.step for point in points}) == 1:
        return min(_BESIDE, _ALL_BARS / max(shown, 1))
    places = sorted({getattr(point, x) for point in points}) if chart.log_x else []
    if len(places) < 2 or places[0] is None or places[0] <= 0:
        return 0
    whole = math.log(places[-1] / places[0])
    # Conditions with other batch sizes have slightly other tokens at one checkpoint. Gaps below 2 %
    # of the axis are therefore one place.
    gaps = [math.log(after / before) for before, after in itertools.pairwise(places)]
    wide = [gap for gap in gaps if gap > 0.02 * whole]
    return min(_CLOSE, 0.6 * _PANEL * min(wide, default=0) / whole / max(shown, 1))


def _move(axis: Axes, lines: Sequence[Line2D], right: float) -> None:
    """Move lines right by `right` points (1/72 inch).

    The axis's range is not affected: `plot` measured it before the move.
    """
    move = ScaledTranslation(right / 72, 0, axis.figure.dpi_scale_trans)
    for line in lines:
        line.set_transform(axis.transData + move)


def add_scales(axis: Axes, points: Sequence[Point]) -> None:
    """Add an axis of steps above an axis of tokens, and one of bytes of text below it.

    Each is added only if it is proportional to tokens. Steps need one proportion for all
    conditions. For bytes, conditions may differ by up to 5 %: the axis is the first condition's,
    and its label says how the others differ.
    """
    # The last point of each condition.
    last = {point.condition: point for point in sorted(points, key=lambda point: point.step)}
    steps = _proportion(points, "step", last)
    if steps and len(set(steps.values())) == 1:
        _scale(axis, "top", next(iter(steps.values()))).set_xlabel(X_LABELS["step"])
    bytes_ = _proportion(points, "original_bytes", last)
    if bytes_:
        first, *others = bytes_
        more = {name: bytes_[name] / bytes_[first] - 1 for name in others}
        if max((abs(each) for each in more.values()), default=0) < _ALIKE:
            below = _scale(axis, _BELOW, bytes_[first])
            below.set_xlabel(X_LABELS["original_bytes"] + _more_words(first, more))


def _proportion(
    points: Sequence[Point], field: str, last: dict[str, Point]
) -> dict[str, float] | None:
    """Return each condition's `field` per token, or None if it is not constant over training.

    A point may be off by 1 % of the last point's value.
    """
    rates = {}
    for name, end in last.items():
        if not end.tokens or not getattr(end, field):
            return None
        rates[name] = getattr(end, field) / end.tokens
    for point in points:
        expected = rates[point.condition] * (point.tokens or 0)
        if abs(getattr(point, field) - expected) > 0.01 * getattr(last[point.condition], field):
            return None
    return rates


def _more_words(first: str, more: dict[str, float]) -> str:
    """Return how far the other conditions are from the axis of bytes: " (baseline; others +2.1 %)".

    `more` has each one's bytes per token relative to the first condition's, minus 1.
    """
    shown = [f"{100 * each:+.1f}" for each in more.values()]
    if not shown or set(shown) <= {"+0.0", "-0.0"}:
        return ""
    if len(set(shown)) == 1:
        return f" ({first}; {next(iter(more)) if len(more) == 1 else 'others'} {shown[0]} %)"
    low, high = min(more.values()), max(more.values())
    return f" ({first}; others {100 * low:+.1f} to {100 * high:+.1f} %)"


def _scale(axis: Axes, place: Literal["top"] | float, rate: float) -> SecondaryAxis:
    """Add an axis whose values are `rate` times those of the axis of tokens."""

    def times(tokens: Any) -> Any:
        return tokens * rate

    def over(values: Any) -> Any:
        return values / rate

    scale = axis.secondary_xaxis(place, functions=(times, over))
    scale.xaxis.set_major_locator(MaxNLocator(6))
    scale.xaxis.set_major_formatter(EngFormatter(sep=""))
    return scale


def chances(points: Sequence[Point]) -> list[float]:
    """Return the distinct accuracies of guessing; a chart has at most one, of its items."""
    return sorted({point.chance for point in points if point.chance is not None})


def _is_one_step(points: Sequence[Point]) -> bool:
    return len({point.step for point in points}) == 1


def _draw_step(axis: Axes, points: list[Point], x: str, number: int, right: float) -> None:
    """Draw one condition's points of one step and split, moved right by `right` points."""
    [mean] = over_seeds(points, x)
    marker = "." if points[0].split == TRAIN else look(number).marker
    parts: list[tuple[list[float], Style]] = [([mean.value], {**STYLE, "marker": marker})]
    if mean.low is not None and mean.high is not None:
        parts.append(([mean.low, mean.high], _BOUNDS_STYLE))
    seeds = [point.value for point in points]
    if len(seeds) > 1:
        parts.append((seeds, {"marker": ".", "markersize": 5, "linestyle": "none", "alpha": 0.6}))
    for values, style in parts:
        colour = look(number).colour
        _move(axis, axis.plot([mean.x] * len(values), values, color=colour, **style), right)


def _draw_curve(
    axis: Axes, points: list[Point], x: str, number: int, conditions: int, right: float
) -> None:
    """Draw one condition's curve of one split, moved right by `right` points.

    It has a bar at each interval, a faint line for each of several seeds, and their mean.
    `number` is the condition's place among all `conditions`.
    """
    places, colour = over_seeds(points, x), look(number).colour
    seeds = sorted({point.seed for point in points})
    lines = []
    for seed in seeds if len(seeds) > 1 else []:
        own = over_seeds([point for point in points if point.seed == seed], x)
        lines += axis.plot(*_coordinates(own), color=colour, **SEED_STYLE)
    # Of 100 places every 5th has a marker and a bar.
    every = -(-len(places) // _MOST_MARKERS)
    if points[0].low is not None:
        for place in places[::every]:
            if place.low is not None and place.high is not None:
                bounds = [place.low, place.high]
                lines += axis.plot([place.x] * 2, bounds, color=colour, zorder=1.9, **_BOUNDS_STYLE)
    if points[0].split == TRAIN:
        style = _training_style(len(places), number, conditions)
    else:
        style = {**STYLE, "marker": look(number).marker, "markevery": every}
    lines += axis.plot(*_coordinates(places), color=colour, **style)
    _move(axis, lines, right)


def _training_style(places: int, number: int, conditions: int) -> Style:
    """Return the style of a training curve of `places` points: thin, and pale if it is noisy."""
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
    """Make the x axis linear, or logarithmic if there are positive places `logarithmic`."""
    axis.xaxis.set_major_locator(MaxNLocator(6))
    # One place has no range of its own: show from half of it to twice as much.
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
    """Return round numbers from `low` to `high`, both positive, as ticks of a logarithmic axis.

    A longer axis has fewer a decade: 2e6 to 3e7 gives 2, 3, 5, 10, 20, 30 million.
    """
    decades = math.log10(high / low)
    heads = (1, 2, 3, 5) if decades < 1.5 else (1, 3) if decades < 3 else (1,)
    exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    numbers = [head * 10.0**exponent for exponent in exponents for head in heads]
    return [number for number in numbers if low <= number <= high]


def condition_handles(conditions: list[str], shown: list[str]) -> list[Artist]:
    """Return the legend's entries for the conditions that are shown."""
    looks = {condition: look(number) for number, condition in enumerate(conditions)}
    return [
        Line2D([], [], color=each.colour, marker=each.marker, label=condition, **STYLE)
        for condition, each in looks.items()
        if condition in shown
    ]


def seed_handles(drawn: Sequence[tuple[Chart, Sequence[Point]]]) -> list[Artist]:
    """Return the legend's entries for the faint lines, dots and bars of these charts."""
    seeds = len({point.seed for _, points in drawn for point in points})
    accuracies = [points for chart, points in drawn if chart.is_accuracy and points]
    handles: list[Artist] = []
    if seeds > 1:
        said = f"faint: each of {seeds} seeds, around their mean"
        handles.append(Line2D([], [], color=GREY, label=said, **SEED_STYLE))
    steps = [points for _, points in drawn if points and _is_one_step(points)]
    words = ""
    if seeds > 1 and (accuracies or steps):
        words = "bar: lowest to highest" + (", of their 95 % intervals too" if accuracies else "")
    elif accuracies:
        words = "bar: 95 % interval"
    if words:
        handles.append(Line2D([], [], color=GREY, label=words, **_BOUNDS_STYLE))
    return handles


def legend_columns(labels: Sequence[str]) -> int:
    """Return the largest number of legend columns that fit below a figure of 12 inches."""
    for columns in range(len(labels), 1, -1):
        # matplotlib fills column after column, the first ones with one entry more: 8 entries in 3
        # columns are 3, 3 and 2.
        fewest, more = divmod(len(labels), columns)
        ends = itertools.accumulate(fewest + (number < more) for number in range(columns))
        parts = [labels[end - fewest - (number < more) : end] for number, end in enumerate(ends)]
        if sum(max(map(len, part)) + _SYMBOL for part in parts) <= _LEGEND:
            return columns
    return 1
