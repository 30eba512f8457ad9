"""The comparisons as files: JSON, CSV for the chart, values for a metrics file, and a table."""

import re
from typing import Any

from model.comparison.family import Judged, p_words
from model.comparison.outcomes import VALIDATION
from model.comparison.runs import TASK_SCORE, TRUE_ANSWERS
from model.results.markdown_table import Cell, Table, count, csv_bytes, words
from model.statistics.paired import FEW_CLUSTERS

FIELDS = (
    *("model", "figure", "unit", "condition", "difference", "low", "high"),
    *("holm_p", "items", "seeds", "detectable", "differs"),
)
# `make diff` sorts by name: "bits_per_byte" and "combined" stand before the models' names,
# "fine_tuned" and "pretrained".
_HEADED = {VALIDATION: "bits_per_byte", TASK_SCORE: "combined", TRUE_ANSWERS: "combined"}
# Fields of a Comparison that only serve to compute its others and are not written.
_INTERNAL = ("is_answers", "student", "signs", "over_seeds")


def comparison_json(judged: Judged) -> dict[str, Any]:
    """Return everything about one comparison; p is null if it has none."""
    row = judged.row
    named = {"model": row.model, "figure": row.figure, "unit": row.unit, "condition": row.second}
    found = {key: value for key, value in row.comparison._asdict().items() if key not in _INTERNAL}
    if not row.has_p:
        found |= {"items_p": None, "seeds_p": None}
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
        "role": row.role,
        "same_as": judged.same_as,
    }


def differences_csv(family: list[Judged]) -> bytes:
    """Return a CSV of all differences with their intervals, for the chart; columns are FIELDS."""
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

    `first` is the first condition. `models` maps the models that are shown to their names in the
    file. The primary figure and the figures of several tasks have names of their own (_HEADED).
    Tested figures have a p only with several seeds: one seed gives no evidence about conditions.
    """
    shown: dict[str, dict[str, dict[str, float | None]]] = {name: {} for name in models.values()}
    for judged in family:
        row, said = judged.row, judged.row.comparison
        name = _HEADED.get(row.figure) or models.get(row.model)
        if name:
            of_model = shown.setdefault(name, {})
            figures = of_model.setdefault(_slug(row.figure), {first: said.first})
            figures |= {row.second: said.second, f"{row.second}_difference": said.difference}
            if said.seeds > 1 and row.has_p:
                figures[f"{row.second}_holm_p"] = judged.holm_p
    return shown


def comparison_table(first: str, family: list[Judged]) -> Table:
    """Return a table with a row for each comparison; `first` is the first condition."""
    others = sorted({judged.row.second for judged in family})
    is_one = len(others) == 1
    # With one other condition its name heads the column; with several it stands in each cell.
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
                _value_cell("", said.first, said.spread and said.spread[0]),
                _value_cell(
                    "" if is_one else f"{row.second} ",
                    said.second,
                    said.spread and said.spread[1],
                ),
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


def _value_cell(before: str, value: float, spread: float | None) -> Cell:
    """Return the cell of a figure: "0.2955", or with several seeds "0.2955 ± 0.0031"."""
    if spread is None:
        return Cell(f"{before}{value:.4f}", value)
    return Cell(f"{before}{value:.4f} ± {spread:.4f}", [value, spread])


def _unit(family: list[Judged]) -> str:
    """Return the table's legend: what its columns mean and how p is corrected."""
    seeds = max((judged.row.comparison.seeds for judged in family), default=0)
    if seeds > 1:
        secondary = max(
            (judged.comparisons for judged in family if judged.row.role == "secondary"), default=0
        )
        return (
            f"mean ± standard deviation of {seeds} seeds; 95 % and p over seeds and items; p of "
            f"validation alone, and of {secondary} secondary comparisons by Holm; the others are "
            "described"
        )
    number = max((judged.comparisons for judged in family), default=0)
    return (
        "the same items; 95 % and p over other items, of products other wordings; no p for bits "
        f"per byte, with one seed each; Holm p and Detectable for all {number} comparisons together"
    )


def _p_cell(value: float | None) -> Cell:
    return Cell(p_words(value), value)


def _slug(words: str) -> str:
    """Return a metric's name: "HellaSwag acc_norm" becomes "hellaswag_acc_norm"."""
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
