"""Learning curves as PNGs, the same bytes for the same points."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from model.curves.charts import BY_ALL, CHARTS, CURVES, TASK_CHARTS, X_LABELS, Chart
from model.curves.panels import (
    CHANCE_STYLE,
    GPT2_STYLE,
    STYLE,
    TRAIN_STYLE,
    condition_handles,
    draw_chart,
    legend_columns,
    picture,
    seed_handles,
)
from model.curves.points import Curves, Point
from model.curves.style import GREY
from model.tasks.labels import CHANCE

# Of all steps. A fresh network's loss is so high that what follows would be a flat line.
_BEGINNING = 0.1
_FIT = "axes of loss and bits per byte fit the last nine tenths of training"
_IN_A_ROW = 3

Panel = tuple[str, str]  # a chart's name, and what it is drawn against: a key of X_LABELS


def _rows(panels: Sequence[Panel]) -> list[Sequence[Panel]]:
    return [panels[start : start + _IN_A_ROW] for start in range(0, len(panels), _IN_A_ROW)]


_TASKS = [chart.name for chart in TASK_CHARTS]
_LEARNING = _rows(
    [(name, "tokens") for name in ("loss", "bits_per_byte", "gradient_norm", *_TASKS)]
)
_OF_STEPS = ("gradient_norm", "learning_rate", "sft_loss")
_TRAINING = [
    *([(chart.name, x) for x in X_LABELS] for chart in CURVES if chart.x == BY_ALL),
    *_rows([(name, "step") for name in _OF_STEPS]),
]


def draw_curves(
    path: Path, points: Curves, conditions: list[str], shown: list[str], title: str
) -> None:
    """Draw training and scores of the conditions `shown` against tokens.

    Colours are those of all `conditions`.
    """
    _draw(path, _LEARNING, points, conditions, shown, title)


def draw_training(path: Path, points: Curves, conditions: list[str], title: str) -> None:
    """Draw losses against steps, tokens and bytes; gradient norm, learning rate, sft by step."""
    _draw(path, _TRAINING, points, conditions, conditions, title)


def _draw(
    path: Path,
    rows: Sequence[Sequence[Panel]],
    points: Curves,
    conditions: list[str],
    shown: list[str],
    title: str,
) -> None:
    drawn = [(CHARTS[name], points[name]) for panels in rows for name, _ in panels]
    with picture(path, 12, 0.6 + 3 * len(rows)) as figure:
        grid = figure.subplots(len(rows), max(map(len, rows)), squeeze=False)
        for panels, axes in zip(rows, grid, strict=True):
            for (name, x), axis in zip(panels, axes, strict=False):
                draw_chart(axis, CHARTS[name], x, points[name], conditions, shown)
                if CHARTS[name].is_fitted:
                    _fit(axis, points[name])
                if (name, x) == next(panel for panel in panels if panel[0] == name):
                    axis.set_title(CHARTS[name].title, loc="left")  # beside itself once
            for axis in axes[len(panels) :]:
                axis.remove()
        handles = _legend(drawn, conditions, shown)
        columns = legend_columns([str(handle.get_label()) for handle in handles])
        figure.legend(handles=handles, loc="outside lower center", ncols=columns)
        figure.suptitle(f"{title} ({_FIT})", x=0.01, ha="left", fontsize=12)


def _fit(axis: Axes, points: list[Point]) -> None:
    first = _BEGINNING * max(point.step for point in points)
    late = [point.value for point in points if point.step >= first]
    room = 0.08 * (max(late) - min(late))
    if room:
        axis.set_ylim(min(late) - room, max(late) + room)


def _legend(
    drawn: list[tuple[Chart, list[Point]]], conditions: list[str], shown: list[str]
) -> list[Artist]:
    """Return an entry for each condition, for the two splits, for seeds and bands, and for each
    reference line.
    """
    charts = [chart for chart, _ in drawn]
    handles = condition_handles(conditions, shown)
    handles.append(Line2D([], [], color=GREY, label="thin: training", alpha=0.8, **TRAIN_STYLE))
    handles.append(
        Line2D([], [], color=GREY, label="thick: held-out", linewidth=STYLE["linewidth"])
    )
    handles += seed_handles(drawn)
    if any(chart.is_accuracy for chart in charts):
        handles.append(Line2D([], [], label=f"chance ({CHANCE})", **CHANCE_STYLE))
    for reference in sorted({chart.reference for chart in charts if chart.reference is not None}):
        handles.append(Line2D([], [], label=f"OpenAI gpt2, 124M ({reference})", **GPT2_STYLE))
    return handles
