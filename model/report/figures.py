"""The report's charts: for each chart its specification, its data, and a table of the data."""

import csv
from pathlib import Path
from typing import NamedTuple

from common.errors import PipelineError
from model.curves.charts import DIFFERENCES, PAIRED, USAGE, Chart
from model.curves.points import TRAIN, VAL
from model.report.vega import LINES, Spec, paired_chart, report_chart

# Points of one run and split. A chart has about as many pixels, and the page stays small.
_MOST_POINTS = 300
# Rows of the table below a chart.
_MOST_ROWS = 60
# The columns that the table below a chart shows, by the chart's shape.
_COLUMNS = {
    "curve": (
        *("condition", "seed", "split", "step", "tokens", "original_bytes"),
        *("value", "low", "high"),
    ),
    "bars": ("condition", "seed", "where", "facts", "total", "share"),
    "differences": (
        *("model", "figure", "condition", "difference", "low", "high"),
        *("holm_p", "items", "seeds", "detectable", "differs"),
    ),
    "paired": (
        *("condition", "step", "tokens", "original_bytes"),
        *("difference", "low", "high", "differs"),
    ),
}
_USAGE_CAPTION = "Bars are means over seeds, ticks the seeds."
_DIFFERENCES_CAPTION = (
    "Bars are 95 % intervals; filled points differ after Holm's correction, with one seed by more "
    "than other items explain. What is in the grey cannot be seen reliably with so many items and "
    "seeds. With several seeds few figures are tested, and the others have neither."
)

Rows = list[dict[str, str]]


class Figure(NamedTuple):
    """One chart of the page."""

    id: str
    title: str
    caption: str
    # Read aloud in place of the picture.
    label: str
    stage: str
    # Its Vega-Lite specification for each x axis.
    by: dict[str, Spec]
    # The data that it draws: column names, then rows.
    data: list[list[str]]
    # The table below it.
    columns: list[str]
    rows: list[list[str]]
    note: str
    # The paired differences of the same figure, drawn below it.
    below: "Figure | None" = None


def read_rows(path: Path) -> Rows:
    """Return the rows of a CSV as dicts of text; raise PipelineError if it cannot be read."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: cannot be read ({error}); run dvc repro") from None


def curve_figures(plots: Path, charts: list[Chart]) -> list[Figure]:
    """Return a figure for every curve of `charts` that has points."""
    found = [(chart, read_rows(plots / chart.file)) for chart in charts]
    differences = read_rows(plots / PAIRED.file)
    return [
        _curve(chart, rows)._replace(below=_paired(chart, rows, differences))
        for chart, rows in found
        if rows
    ]


def _paired(chart: Chart, rows: Rows, differences: Rows) -> Figure | None:
    """Return the figure of one chart's paired differences, or None if there are none."""
    mine = [row for row in differences if row["chart"] == chart.name]
    if not mine:
        return None
    first, is_tested = rows[0]["condition"], any(row["low"] for row in mine)
    title = f"Difference from {first}, paired"
    seeds = len({row["seed"] for row in rows})
    over = f"{seeds} seeds and items" if seeds > 1 else "items"
    more = "significantly" if seeds > 1 else "by more than items explain"
    sentences = {
        "Below: on the same documents and items.": True,
        f"Bars there are 95 % intervals over {over}; filled points differ {more}.": is_tested,
        "What has no bar lies between those compared.": is_tested
        and not all(row["low"] for row in mine),
    }
    figure = _figure(PAIRED, mine, mine, ["figure", "unit", "chart"], "")
    return figure._replace(
        id=f"{chart.name}_{PAIRED.name}",
        title=title,
        caption=" ".join(words for words, holds in sentences.items() if holds),
        label=f"Chart: {chart.title}, {title}. {_paired_ends(mine)}Data in the table below.",
        by={x: paired_chart(chart, x, len({row["condition"] for row in mine})) for x in chart.x},
    )


def _paired_ends(rows: Rows) -> str:
    """Return each condition's last difference in words, for the figure's label."""
    last = {row["condition"]: row for row in rows}
    ends = [
        f"{condition} {float(row['difference']):+.4f} at step {row['step']}"
        for condition, row in last.items()
    ]
    return "At the end " + ", ".join(ends) + ". "


def difference_figures(plots: Path) -> list[Figure]:
    """Return a figure of the differences for each unit in which they are measured."""
    rows = read_rows(plots / DIFFERENCES.file)
    figures = []
    for unit in dict.fromkeys(row["unit"] for row in rows):
        mine = [row for row in rows if row["unit"] == unit]
        figure = _figure(DIFFERENCES, mine, mine, ["unit"], _DIFFERENCES_CAPTION)
        figures.append(
            figure._replace(
                id=f"{DIFFERENCES.name}_{unit.replace(' ', '_')}",
                title=f"{DIFFERENCES.title}, {unit}",
                label=f"Chart: {DIFFERENCES.title}, {unit}. Data in the table below.",
            )
        )
    return figures


def usage_figure(plots: Path) -> Figure:
    """Return the figure of how much fact tokens are used."""
    rows = read_rows(plots / USAGE.file)
    return _figure(USAGE, rows, rows, [], _USAGE_CAPTION)


def _figure(
    chart: Chart, rows: Rows, drawn: Rows, only_data: list[str], caption: str, ends: str = ""
) -> Figure:
    """Return the figure whose table has `rows` and whose chart draws `drawn`.

    The chart's data also have the columns `only_data`. Columns without any value are left out.
    """
    columns = [name for name in _COLUMNS[chart.shape] if any(row[name] for row in rows)]
    shown, note = _table_rows(rows) if chart.shape == "curve" else (rows, "")
    conditions = len({row["condition"] for row in rows})
    return Figure(
        id=chart.name,
        title=chart.title,
        caption=caption,
        label=f"Chart: {chart.title}, {chart.y_label}. {ends}Data in the table below.",
        stage=chart.stage,
        by={x: report_chart(chart, x, conditions) for x in chart.x},
        data=as_data([*columns, *only_data], drawn),
        columns=columns,
        rows=[[_short(row[name]) for name in columns] for row in shown],
        note=note,
    )


def _curve(chart: Chart, rows: Rows) -> Figure:
    """Return the figure of a curve, with the columns of its reference lines."""
    lines = [name for name in LINES if any(row[name] for row in rows)]
    return _figure(chart, rows, thinned(rows), lines, _caption(chart, rows), _ends(rows))


def _caption(chart: Chart, rows: Rows) -> str:
    """Return the caption: the sentences that apply to this chart and its data."""
    seeds, splits = {row["seed"] for row in rows}, {row["split"] for row in rows}
    is_one_step = len({row["step"] for row in rows}) == 1
    over_seeds = ", from the lowest to the highest seed" if len(seeds) > 1 else ""
    is_accuracy = any(row["low"] for row in rows)
    beginning = "The first tenth of training is left out: a fresh network's loss would flatten"
    sentences = {
        f"Vertical: {chart.y_label}.": True,
        f"{beginning} what follows.": chart.is_fitted,
        "Where curves lie on each other, the first is the widest.": chart.may_coincide,
        "Thin lines are training, thick ones validation.": splits >= {TRAIN, VAL},
        f"Lines are means of {len(seeds)} seeds, faint ones the seeds.": len(seeds) > 1,
        f"Bars are 95 % intervals over items{over_seeds}.": is_accuracy,
        "Bars go from the lowest to the highest seed.": is_one_step
        and len(seeds) > 1
        and not is_accuracy,
        "Dotted: chance.": "chance" in chart.lines,
        "Dashed: OpenAI's gpt2 (124M).": "gpt2" in chart.lines,
        "Dash-dotted: the gate's tolerance.": any(row["tolerance"] for row in rows),
    }
    return " ".join(sentence for sentence, holds in sentences.items() if holds)


def _ends(rows: Rows) -> str:
    """Return the last value of every run in words, the held-out one if there is one."""
    last = {(row["condition"], row["seed"]): row for row in _held_out(rows)}
    ends = [
        f"{condition} (seed {seed}) {_short(row['value'])} at step {row['step']}"
        for (condition, seed), row in last.items()
    ]
    return "At the end " + ", ".join(ends) + ". "


def _held_out(rows: Rows) -> Rows:
    """Return the rows that are not of the training split, or all if there are no others."""
    return [row for row in rows if row["split"] != TRAIN] or rows


def thinned(rows: Rows, most: int = _MOST_POINTS) -> Rows:
    """Return at most `most` rows of each run and split, evenly spaced, the last one among them.

    Of 7 rows with `most` = 3, every third is kept: rows 0, 3 and 6.
    """
    runs: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        runs.setdefault((row["condition"], row["seed"], row["split"]), []).append(row)
    kept: Rows = []
    for run in runs.values():
        every = -(-len(run) // most)
        # Starts so that the last row is reached.
        kept += run[(len(run) - 1) % every :: every]
    return kept


def _table_rows(rows: Rows) -> tuple[Rows, str]:
    """Return the held-out rows that the table shows, and a note of how many are left out."""
    held_out = _held_out(rows)
    runs = len({(row["condition"], row["seed"], row["split"]) for row in held_out})
    shown = thinned(held_out, max(2, _MOST_ROWS // runs))
    left = len(rows) - len(shown)
    return shown, f"{left:,} of {len(rows):,} points are left out of this table." if left else ""


def as_data(columns: list[str], rows: Rows) -> list[list[str]]:
    """Return the columns' names, then each row's values; objects would take twice the bytes."""
    return [columns, *([_short(row[column], 7) for column in columns] for row in rows)]


def _short(text: str, digits: int = 5) -> str:
    """Return a number rounded to `digits` digits; whole numbers and other text stay unchanged."""
    if not text or text.lstrip("-").isdigit():
        return text
    try:
        return f"{float(text):.{digits}g}"
    except ValueError:
        return text
