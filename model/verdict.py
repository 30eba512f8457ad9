"""Comparisons as a family, corrected for their number, in a table, in words and as data for charts."""

import re
from typing import NamedTuple

import numpy as np

from model.comparison import POWER, Comparison, Paired, compare, holm
from model.outcomes import Outcomes
from model.table import Cell, Table, count, csv_bytes, words

SIGNIFICANT = 0.05
FIELDS = ("model", "figure", "unit", "condition", "difference", "low", "high", "holm_p", "items", "seeds", "detectable")


class Row(NamedTuple):
    """One comparison: which model and figure it is of, the figure's unit, and what is compared with the first."""

    model: str
    figure: str
    unit: str
    second: str
    comparison: Comparison


class Judged(NamedTuple):
    row: Row
    holm_p: float

    @property
    def is_different(self) -> bool:
        return self.holm_p < SIGNIFICANT

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of all that can be said: over seeds if there are several, else over items."""
        return self.row.comparison.seeds_interval_95 or self.row.comparison.items_interval_95


def compare_outcomes(model: str, figure: str, second: str, arms: tuple[list[Outcomes], list[Outcomes]]) -> Row:
    """Compare two arms, each of the same seeds in the same order.

    An ending that is longer than the context is measured on its last tokens only, other bytes with another tokenizer: an item
    whose weight differs between the arms is left out. Raises ValueError unless all answered the same items.
    """
    asked = {outcomes.items for arm in arms for outcomes in arm}
    if len(asked) != 1:
        raise ValueError(f"{model}, {figure}: answered {len(asked)} sets of items")
    one = arms[0][0]
    first, others = (np.array([outcomes.values for outcomes in arm]) for arm in arms)
    _, clusters = np.unique(one.clusters, return_inverse=True)
    alike = np.all([outcomes.weights == one.weights for arm in arms for outcomes in arm], axis=0)
    paired = Paired(first[:, alike], others[:, alike], one.weights[alike], clusters[alike])
    unit = "accuracy" if one.is_answers else "bits per byte"
    return Row(model, figure, unit, second, compare(paired, one.is_answers))


def judge(rows: list[Row]) -> list[Judged]:
    """Return the rows with p values adjusted by Holm for all of them together."""
    return [Judged(*pair) for pair in zip(rows, holm([row.comparison.p for row in rows]), strict=True)]


def comparison_json(judged: Judged) -> dict:
    row = judged.row
    named = {"model": row.model, "figure": row.figure, "unit": row.unit, "condition": row.second}
    return {**named, **row.comparison._asdict(), "holm_p": judged.holm_p}


def differences_csv(family: list[Judged]) -> bytes:
    """Return the differences with their intervals, for a chart."""
    rows = []
    for judged in family:
        row, said = judged.row, judged.row.comparison
        numbers = said.difference, *judged.interval, judged.holm_p, said.items, said.seeds, said.detectable
        rows.append([row.model, row.figure, row.unit, row.second, *numbers])
    return csv_bytes(FIELDS, rows)


def headline(first: str, family: list[Judged], models: dict[str, str]) -> dict:
    """Return what a metrics file shows of the comparisons of some models: both values, the difference and its p.

    `models` maps those models to what they are called there.
    """
    shown: dict = {name: {} for name in models.values()}
    for judged in family:
        row, said = judged.row, judged.row.comparison
        if row.model in models:
            figures = shown[models[row.model]].setdefault(_slug(row.figure), {first: said.first})
            figures |= {
                row.second: said.second,
                f"{row.second}_difference": said.difference,
                f"{row.second}_holm_p": judged.holm_p,
            }
    return shown


def comparison_table(first: str, family: list[Judged]) -> Table:
    """Return a table, a row for each comparison; the interval is over seeds if there are several, else over items."""
    others = sorted({judged.row.second for judged in family})
    is_one = len(others) == 1
    second = others[0] if is_one else "other"
    columns = ["Model", "Figure", "n", first, second, "Difference", "95 %", "p", "McNemar p", "Holm p", "Detectable"]
    rows = []
    for judged in family:
        row, said = judged.row, judged.row.comparison
        low, high = judged.interval
        rows.append(
            [
                words(row.model),
                words(_named(row)),
                count(said.items),
                Cell(f"{said.first:.4f}", said.first),
                Cell(f"{'' if is_one else row.second + ' '}{said.second:.4f}", said.second),
                Cell(f"{said.difference:+.4f}", said.difference),
                Cell(f"{low:+.4f} to {high:+.4f}", [low, high]),
                _p(said.p),
                Cell("", None) if said.mcnemar_p is None else _p(said.mcnemar_p),
                _p(judged.holm_p),
                Cell("" if said.detectable is None else f"{said.detectable:.4f}", said.detectable),
            ]
        )
    by = "Student's t over seeds" if any(judged.row.comparison.seeds > 1 for judged in family) else "the bootstrap"
    unit = f"the same items; p of {by}, McNemar's as if items were independent, Holm's for all comparisons together"
    return Table("comparisons", "What the differences are worth", unit, columns, rows, labels=2)


def sentences(first: str, family: list[Judged]) -> list[str]:
    """Return what the comparisons say: the verdict, then a sentence for each difference."""
    if not family:
        return ["There is nothing to compare."]
    different = [judged for judged in family if judged.is_different]
    found = f"{len(different)} of {len(family)} comparisons find" if different else f"No comparison of {len(family)} finds"
    headline = f"{found} a difference (p < {SIGNIFICANT} after Holm's correction)."
    if any(judged.row.comparison.seeds == 1 for judged in family):
        headline += " With one seed each it is between networks, not settings: two seeds of the same may differ by as much."
    return [headline, *(_difference(first, judged) for judged in different)]


def limits(family: list[Judged]) -> list[str]:
    """Return what could not have been seen: a sentence for each figure of the last checkpoint and of the fine-tuned model."""
    last = {(judged.row.model == "fine-tuned", judged.row.figure, judged.row.second): judged.row for judged in family}
    return [_limit(row) for row in last.values()]


def _difference(first: str, judged: Judged) -> str:
    row, said = judged.row, judged.row.comparison
    low, high = judged.interval
    return (
        f"{row.model}, {_named(row)}: {row.second} {said.second:.4f}, {first} {said.first:.4f}, difference "
        f"{said.difference:+.4f} ({low:+.4f} to {high:+.4f}), p {_p(judged.holm_p).text}."
    )


def _limit(row: Row) -> str:
    said = row.comparison
    seeds = "one seed" if said.seeds == 1 else f"{said.seeds} seeds"
    start = f"{row.second}, {row.model}, {_named(row)}: with {said.items:,} items and {seeds}, "
    if said.detectable is None:
        return start + "of which none came out differently, nothing can be said."
    return start + f"differences under {said.detectable:.4f} cannot be seen reliably ({POWER:.0%} power, no correction)."


def _named(row: Row) -> str:
    return row.figure if row.unit == "accuracy" else f"{row.figure} ({row.unit}, less is better)"


def _p(value: float) -> Cell:
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
