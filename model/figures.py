"""Learning curves as PNGs, the same bytes for the same points."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from model.curves import CHANCE, CHARTS, Chart, Point

# Okabe and Ito's colours, told apart by colour-blind readers; conditions also differ in marker.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MARKERS = ("o", "s", "^", "D")
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


def draw_curves(path: Path, points: dict[str, list[Point]], conditions: list[str], shown: list[str], title: str) -> None:
    """Draw all charts for the conditions `shown`; colours and axes are those of all `conditions`."""
    with mpl.rc_context():
        mpl.rcdefaults()  # a reader's own matplotlibrc is no input
        mpl.rcParams.update(_SETTINGS)
        figure = Figure(figsize=(12, 6.6), layout="constrained")
        axes = figure.subplots(-(-len(CHARTS) // 3), 3, squeeze=False)
        for chart, axis in zip(CHARTS, axes.flat, strict=False):
            _draw_chart(axis, chart, points[chart.name], conditions, shown)
        handles = {}
        for axis in axes.flat:
            handles.update(dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True)))
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
        figure.suptitle(title, x=0.01, ha="left", fontsize=13)
        # Without Software the file does not depend on how matplotlib calls itself.
        figure.savefig(path, dpi=110, metadata={"Software": None})


def _draw_chart(axis: Axes, chart: Chart, points: list[Point], conditions: list[str], shown: list[str]) -> None:
    for number, condition in enumerate(conditions):
        colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
        for seed in sorted({point.seed for point in points}) if condition in shown else []:
            run = sorted((p for p in points if (p.condition, p.seed) == (condition, seed)), key=lambda p: p.tokens)
            tokens, values = [p.tokens for p in run], [p.value for p in run]
            sparse = len(run) <= 20
            axis.plot(
                tokens, values, color=colour, label=condition, linewidth=1.6, marker=marker if sparse else None, markersize=4.5
            )
            if chart.is_accuracy:
                axis.fill_between(tokens, [p.low for p in run], [p.high for p in run], color=colour, alpha=0.15, linewidth=0)
    if chart.is_accuracy:
        axis.axhline(CHANCE, color="#444444", linestyle=":", linewidth=1.2, label="chance (0.25)")
    if chart.reference is not None:
        label = f"OpenAI gpt2, 124M ({chart.reference})"
        axis.axhline(chart.reference, color="#444444", linestyle="--", linewidth=1.2, label=label)
    axis.set_title(chart.title + (" (95 % interval)" if chart.is_accuracy else ""), loc="left")
    axis.set_xlabel("training tokens")
    axis.set_ylabel(chart.y_label)
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.margins(x=0.02, y=0.08)
