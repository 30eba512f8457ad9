"""Learning curves as PNGs, the same bytes for the same points."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from model.curves import CHANCE, CHARTS, TRAIN, X_LABELS, Chart, Point

# Okabe and Ito's colours, told apart by colour-blind readers; conditions also differ in marker.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MARKERS = ("o", "s", "^", "D")
_GREY = "#444444"
_SETTINGS = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.titleweight": "bold",
    "axes.titlesize": 10.5,
    "grid.alpha": 0.25,
    "font.size": 9.5,
    "legend.frameon": False,
}
_TRAIN_STYLE = {"linewidth": 0.9, "zorder": 1.9}  # behind what is held out
_STYLE = {"linewidth": 1.6, "markersize": 5.5, "markerfacecolor": "none"}  # hollow: conditions come close to each other
_MOST_MARKERS = 20
_NOISY = 200  # points; more of them are a band, and the conditions must show through each other
_FITTED = ("loss", "bits_per_byte")
_BEGINNING = 0.1  # of all steps; a fresh network's loss is so high that what follows would be a flat line
_FIT = "axes of loss and bits per byte fit the last nine tenths of training"
_CHART = {chart.name: chart for chart in CHARTS}

Panel = tuple[str, str]  # a chart's name, and what it is drawn against: a key of X_LABELS
_LEARNING: tuple[tuple[Panel, ...], ...] = (
    (("loss", "tokens"), ("bits_per_byte", "tokens"), ("gradient_norm", "tokens")),
    (("hellaswag_acc_norm", "tokens"), ("hellaswag_gold_bits_per_byte", "tokens"), ("continuation_acc_norm", "tokens")),
)
_TRAINING: tuple[tuple[Panel, ...], ...] = (
    tuple(("loss", x) for x in X_LABELS),
    tuple(("bits_per_byte", x) for x in X_LABELS),
    (("gradient_norm", "step"), ("learning_rate", "step"), ("sft_loss", "step")),
)


def draw_curves(path: Path, points: dict[str, list[Point]], conditions: list[str], shown: list[str], title: str) -> None:
    """Draw how training and scores go, against tokens, for the conditions `shown`; colours are those of all `conditions`."""
    _draw(path, _LEARNING, points, conditions, shown, title)


def draw_training(path: Path, points: dict[str, list[Point]], conditions: list[str], title: str) -> None:
    """Draw loss and bits per byte against steps, tokens and bytes; gradient norm, learning rate and fine-tuning against steps."""
    _draw(path, _TRAINING, points, conditions, conditions, title)


def _draw(
    path: Path,
    rows: Sequence[Sequence[Panel]],
    points: dict[str, list[Point]],
    conditions: list[str],
    shown: list[str],
    title: str,
) -> None:
    with mpl.rc_context():
        mpl.rcdefaults()  # a reader's own matplotlibrc is no input
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(12, 0.6 + 3 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
        for panels, axes in zip(rows, grid, strict=True):
            for axis in axes[len(panels) :]:
                axis.set_axis_off()
            for number, ((name, x), axis) in enumerate(zip(panels, axes, strict=False)):
                _draw_chart(axis, _CHART[name], x, points[name], conditions, shown)
                if name not in [other for other, _ in panels[:number]]:  # beside itself a chart has its title once
                    axis.set_title(_CHART[name].title + (" (95 % interval)" if _CHART[name].is_accuracy else ""), loc="left")
        handles = _legend([_CHART[name] for panels in rows for name, _ in panels], conditions, shown)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        figure.suptitle(f"{title} ({_FIT})", x=0.01, ha="left", fontsize=12)
        # Without Software the file does not depend on how matplotlib calls itself.
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_chart(axis: Axes, chart: Chart, x: str, points: list[Point], conditions: list[str], shown: list[str]) -> None:
    for number, condition in enumerate(conditions):
        colour, marker = _look(number)
        mine = [point for point in points if point.condition == condition and condition in shown]
        for seed, split in sorted({(point.seed, point.split) for point in mine}):
            run = sorted((p for p in mine if (p.seed, p.split) == (seed, split)), key=lambda p: p.step)
            places, values = [getattr(p, x) for p in run], [p.value for p in run]
            if chart.is_shared and len(shown) > 1:
                # Each curve's dashes are in the gaps of the others, or the last one drawn would hide them all.
                dashes = (5 * shown.index(condition), (5, 5 * (len(shown) - 1)))
                axis.plot(places, values, color=colour, linewidth=_STYLE["linewidth"], linestyle=dashes)
            elif split == TRAIN:
                style = {**_TRAIN_STYLE, "marker": "." if len(run) <= _MOST_MARKERS else None, "markersize": 5}
                axis.plot(places, values, color=colour, alpha=0.8 if len(run) <= _NOISY else 0.35, **style)
            else:
                every = -(-len(run) // _MOST_MARKERS)
                axis.plot(places, values, color=colour, marker=marker, markevery=every, **_STYLE)
            if chart.is_accuracy:
                axis.fill_between(places, [p.low for p in run], [p.high for p in run], color=colour, alpha=0.15, linewidth=0)
    if chart.is_accuracy:
        axis.axhline(CHANCE, color=_GREY, linestyle=":", linewidth=1.2)
    if chart.reference is not None:
        axis.axhline(chart.reference, color=_GREY, linestyle="--", linewidth=1.2)
    axis.set_xlabel(X_LABELS[x])
    axis.set_ylabel(chart.y_label)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.margins(x=0.02, y=0.08)
    if chart.name in _FITTED:
        first = _BEGINNING * max(point.step for point in points)
        late = [point.value for point in points if point.step >= first]
        room = 0.08 * (max(late) - min(late))
        if room:
            axis.set_ylim(min(late) - room, max(late) + room)


def _look(number: int) -> tuple[str, str]:
    return _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]


def _legend(charts: list[Chart], conditions: list[str], shown: list[str]) -> list[Artist]:
    """Return an entry for each condition, for the two splits, and for each line that stands for a reference."""
    handles = []
    for number, condition in enumerate(conditions):
        if condition in shown:
            colour, marker = _look(number)
            handles.append(Line2D([], [], color=colour, marker=marker, label=condition, **_STYLE))
    handles.append(Line2D([], [], color=_GREY, label="thin: training", alpha=0.8, **_TRAIN_STYLE))
    handles.append(Line2D([], [], color=_GREY, marker=_MARKERS[0], label="thick: held-out", **_STYLE))
    if any(chart.is_accuracy for chart in charts):
        handles.append(Line2D([], [], color=_GREY, linestyle=":", linewidth=1.2, label=f"chance ({CHANCE})"))
    for reference in sorted({chart.reference for chart in charts if chart.reference is not None}):
        label = f"OpenAI gpt2, 124M ({reference})"
        handles.append(Line2D([], [], color=_GREY, linestyle="--", linewidth=1.2, label=label))
    return handles
