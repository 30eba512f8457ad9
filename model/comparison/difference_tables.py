"""The family of comparisons as data: JSON, CSV for the chart, a metrics file, and a table."""

import re
from typing import Any

from model.comparison.family import Judged, p_words
from model.results.markdown_table import Cell, Table, count, csv_bytes, words
from model.statistics.paired import FEW_CLUSTERS

FIELDS = (
    *("model", "figure", "unit", "condition", "difference", "low", "high"),
    *("holm_p", "items", "seeds", "detectable", "differs"),
)
# Of a comparison, what its other figures are made of.
_INTERNAL = ("is_answers", "student", "signs")


def comparison_json(judged: Judged) -> dict[str, Any]:
    """Return everything about one comparison; p is null where it has none."""
    row = judged.row
    named = {"model": row.model, "figure": row.figure, "unit": row.unit, "condition": row.second}
    found = {key: value for key, value in row.comparison._asdict().items() if key not in _INTERNAL}
    if not row.has_p:
        found["items_p"] = None
    judgement = {
        "holm_p": judged.holm_p,
        "detectable": judged.detectable,
        "differs": judged.is_different,
    }
    return {
        **named,
        **found,
        **judgement,
        "comparisons": judged.comparisons,
        "same_as": judged.same_as,
    }


def differences_csv(family: list[Judged]) -> bytes:
    """Return the differences with their intervals, for a chart."""
    rows = []
    for judged in family:
        row, said = judged.row, judged.row.comparison
        rows.append(
            (
                *(row.model, row.figure, row.unit, row.second),
                *(said.difference, *judged.interval, judged.holm_p, said.items, said.seeds),
                *(judged.detectable, "yes" if judged.is_different else "no"),
            )
        )
    return csv_bytes(FIELDS, rows)


def headline(first: str, family: list[Judged], models: dict[str, str]) -> dict[str, Any]:
    """Return values and differences of some models' comparisons, for a metrics file.

    With several seeds also each difference's p; one seed gives no evidence about conditions.
    `models` maps the models to their names in the file.
    """
    shown: dict[str, dict[str, dict[str, float | None]]] = {name: {} for name in models.values()}
    for judged in family:
        row, said = judged.row, judged.row.comparison
        if row.model in models:
            figures = shown[models[row.model]].setdefault(_slug(row.figure), {first: said.first})
            figures |= {row.second: said.second, f"{row.second}_difference": said.difference}
            if said.seeds > 1:
                figures[f"{row.second}_holm_p"] = judged.holm_p
    return shown


def comparison_table(first: str, family: list[Judged]) -> Table:
    """Return a table with a row for each comparison."""
    others = sorted({judged.row.second for judged in family})
    is_one = len(others) == 1
    second = others[0] if is_one else "other"
    columns = [
        *("Model", "Figure", "n", "Clusters", first, second),
        *("Difference", "95 %", "p", "Holm p", "Detectable"),
    ]
    rows = []
    for judged in family:
        row, said = judged.row, judged.row.comparison
        low, high = judged.interval
        few = " (few)" if said.effective_clusters < FEW_CLUSTERS else ""
        rows.append(
            [
                words(row.model),
                words(row.name),
                count(said.items),
                Cell(f"{said.effective_clusters:,.0f}{few}", said.effective_clusters),
                Cell(f"{said.first:.4f}", said.first),
                Cell(f"{'' if is_one else row.second + ' '}{said.second:.4f}", said.second),
                Cell(f"{said.difference:+.4f}", said.difference),
                Cell(f"{low:+.4f} to {high:+.4f}", [low, high]),
                _p_cell(said.p if row.has_p else None),
                _p_cell(judged.holm_p),
                Cell(
                    "" if judged.detectable is None else f"{judged.detectable:.4f}",
                    judged.detectable,
                ),
            ]
        )
    return Table(
        "comparisons", "What the differences are worth", _unit(family), columns, rows, labels=2
    )


def _unit(family: list[Judged]) -> str:
    """Return what the table's columns mean."""
    if any(judged.row.comparison.seeds > 1 for judged in family):
        by = "p of Student's t over seeds"
    else:
        by = (
            "95 % and p over other items, of products other wordings; "
            "no p for bits per byte, with one seed each"
        )
    number = max((judged.comparisons for judged in family), default=0)
    return f"the same items; {by}; Holm p and Detectable for all {number} comparisons together"


def _p_cell(value: float | None) -> Cell:
    return Cell(p_words(value), value)


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
