"""The interactive charts of the report: what each is of, which stage made it, its data, and a table of them."""

import csv
from pathlib import Path
from typing import NamedTuple

from common.errors import PipelineError
from model.curves.points import CHARTS, TRAIN, X_LABELS, Chart
from model.report.vega import LINES, curves, page
from model.report.vega_rows import differences, others, usage
from model.report.vega_words import Spec
from model.tasks.labels import TASK_FIGURES

# Who measured what a chart shows.
MADE_BY = {
    "loss": "pretrain",
    "bits_per_byte": "pretrain",
    "gradient_norm": "pretrain",
    "learning_rate": "pretrain",
    "sft_loss": "sft",
    **{figure.name: "evaluate" for figure in TASK_FIGURES if figure.has_curve},
    "parity": "export",
    "fact_usage": "curves",
    "differences": "compare",
}
_BY_ALL = ("loss", "bits_per_byte")  # against steps, tokens and bytes
_BY_STEP = ("gradient_norm", "learning_rate", "sft_loss")
_MOST_POINTS = (
    300  # of one run's curve on one split: more than pixels are useful, and the page stays small
)
_MOST_ROWS = 60  # of the table below a chart

Rows = list[dict[str, str]]


class Figure(NamedTuple):
    """One chart: `by` has its specification for each x axis it can have, `data` is what it draws, `rows` its table."""

    id: str
    title: str
    caption: str
    label: str
    stage: str
    by: dict[str, Spec]
    data: list[list[str]]
    columns: list[str]
    rows: list[list[str]]
    note: str


def read_rows(path: Path) -> Rows:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: cannot be read ({error}); run dvc repro") from None


def curve_figures(plots: Path) -> list[Figure]:
    """Return a figure for every chart that has points."""
    found = [(chart, read_rows(plots / f"{chart.name}.csv")) for chart in CHARTS]
    return [_curve(chart, rows) for chart, rows in found if rows]


def _curve(chart: Chart, rows: Rows) -> Figure:
    xs = (
        list(X_LABELS)
        if chart.name in _BY_ALL
        else ["step"]
        if chart.name in _BY_STEP
        else ["tokens"]
    )
    if chart.name in _BY_ALL:
        xs.sort(key=["tokens", "step", "original_bytes"].index)  # as the page's choice begins
    fitted = chart.name in _BY_ALL
    settings = {"log_y": chart.log_y, "fitted": fitted, "shared": chart.is_shared}
    by = {
        x: page(
            None,
            curves(x, X_LABELS[x], chart.y_label, log_x=chart.log_x and x == "tokens", **settings),
        )
        for x in xs
    }
    shown = thinned(rows)
    columns = [
        "condition",
        "seed",
        "split",
        "step",
        "tokens",
        "original_bytes",
        "value",
        "low",
        "high",
        *LINES,
    ]
    columns = [column for column in columns if any(row[column] for row in rows)]
    table, note = _table_rows(rows)
    return Figure(
        id=chart.name,
        title=chart.title,
        caption=" ".join(_sentences(chart, rows)),
        label=f"Chart: {chart.title}, {chart.y_label}. {_ends(rows)}",
        stage=MADE_BY[chart.name],
        by=by,
        data=as_data([column for column in columns if column in rows[0]], shown),
        columns=[column for column in columns if column not in LINES],
        rows=[[_short(row[column]) for column in columns if column not in LINES] for row in table],
        note=note,
    )


def _sentences(chart: Chart, rows: Rows) -> list[str]:
    """Return what a reader has to know to read the chart."""
    seeds, splits = {row["seed"] for row in rows}, {row["split"] for row in rows}
    words = [f"Vertical: {chart.y_label}."]
    if chart.name in _BY_ALL:
        words.append(
            "The first tenth of training is left out: a fresh network's loss would flatten what follows."
        )
    if chart.is_shared:
        words.append("The curves lie on each other; the first is the widest.")
    if splits >= {TRAIN, "val"}:
        words.append("Thin lines are training, thick ones validation.")
    if len(seeds) > 1:
        words.append(f"Lines are means of {len(seeds)} seeds, faint ones the seeds.")
    if any(row["low"] for row in rows):
        words.append(
            "Bands are 95 % intervals over items"
            + (", from the lowest to the highest seed." if len(seeds) > 1 else ".")
        )
    if chart.is_accuracy:
        words.append(
            "Dotted: chance." + (" Dashed: OpenAI's gpt2." if chart.reference is not None else "")
        )
    return words


def _ends(rows: Rows) -> str:
    """Return the last value of every run in words, held-out where there is one."""
    last = {(row["condition"], row["seed"]): row for row in rows if row["split"] != TRAIN} or {
        (row["condition"], row["seed"]): row for row in rows
    }
    ends = [
        f"{condition} (seed {seed}) {_short(row['value'])} at step {row['step']}"
        for (condition, seed), row in last.items()
    ]
    return "At the end " + ", ".join(ends) + ". Data in the table below."


def difference_figures(plots: Path) -> list[Figure]:
    """Return a figure of the differences for each unit they are measured in."""
    rows = read_rows(plots / "differences.csv")
    columns = [
        "model",
        "figure",
        "condition",
        "difference",
        "low",
        "high",
        "holm_p",
        "items",
        "seeds",
        "detectable",
        "differs",
    ]
    figures = []
    for unit in dict.fromkeys(row["unit"] for row in rows):
        mine = [row for row in rows if row["unit"] == unit]
        spec = page(None, differences(len({row["condition"] for row in mine})))
        figures.append(
            Figure(
                id=f"differences_{unit.replace(' ', '_')}",
                title=f"Differences in {unit}",
                caption="Bars are 95 % intervals; filled points differ after Holm's correction, with one seed by more "
                "than other items explain; what is in the grey cannot be seen reliably with so many items and seeds.",
                label=f"Chart: differences from the first condition in {unit}, with 95 % intervals. Data in the table below.",
                stage=MADE_BY["differences"],
                by={"difference": {**spec, "config": others(spec["config"])}},
                data=as_data([*columns, "unit"], mine),
                columns=columns,
                rows=[[_short(row[column]) for column in columns] for row in mine],
                note="",
            )
        )
    return figures


def usage_figure(plots: Path) -> Figure:
    rows = read_rows(plots / "fact_usage.csv")
    columns = ["condition", "seed", "where", "facts", "total", "share"]
    return Figure(
        id="fact_usage",
        title="How much of the text is multiplication facts",
        caption="Bars are means over seeds, ticks the seeds.",
        label="Chart: the share of tokens that are multiplication facts, by place and condition. Data in the table below.",
        stage=MADE_BY["fact_usage"],
        by={"share": page(None, usage(len({row["condition"] for row in rows})))},
        data=as_data(columns, rows),
        columns=columns,
        rows=[[_short(row[column]) for column in columns] for row in rows],
        note="",
    )


def thinned(rows: Rows, most: int = _MOST_POINTS) -> Rows:
    """Return `rows` with at most about `most` of each run and split, its last among them."""
    runs: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        runs.setdefault((row["condition"], row["seed"], row["split"]), []).append(row)
    kept: Rows = []
    for run in runs.values():
        every = -(-len(run) // most)
        kept += run[(len(run) - 1) % every :: every]
    return kept


def _table_rows(rows: Rows) -> tuple[Rows, str]:
    held_out = [row for row in rows if row["split"] != TRAIN] or rows
    runs = len({(row["condition"], row["seed"], row["split"]) for row in held_out})
    shown = thinned(held_out, max(2, _MOST_ROWS // runs))
    left = len(rows) - len(shown)
    return shown, f"{left:,} of {len(rows):,} points are left out of this table." if left else ""


def as_data(columns: list[str], rows: Rows) -> list[list[str]]:
    """Return the columns' names, then each row's values: half of what a list of objects takes."""
    return [columns, *([_short(row[column], 7) for column in columns] for row in rows)]


def _short(text: str, digits: int = 5) -> str:
    """Return a number with a decimal point or an exponent in `digits` digits, any other text as it is."""
    if not text or text.lstrip("-").isdigit():
        return text
    try:
        return f"{float(text):.{digits}g}"
    except ValueError:
        return text
