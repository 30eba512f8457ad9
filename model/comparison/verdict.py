"""Comparisons as a family, corrected for their number, in a table, in words and as data for charts."""

import hashlib
import re
from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.comparison.outcomes import Outcomes
from model.results.markdown_table import Cell, Table, count, csv_bytes, words
from model.statistics.paired import (
    FEW_CLUSTERS,
    POWER,
    SIGNIFICANT,
    Comparison,
    Paired,
    compare,
    holm,
)

FIELDS = (
    *("model", "figure", "unit", "condition", "difference", "low", "high"),
    *("holm_p", "items", "seeds", "detectable", "differs"),
)
# Of a comparison, what its other figures are made of.
_INTERNAL = ("is_answers", "student", "signs")


class Row(NamedTuple):
    """One comparison: which model and figure it is of, the figure's unit, and what is compared with the first.

    `outcomes` is a hash of what both arms said of every item; rows of one model that share it are
    one comparison.
    """

    model: str
    figure: str
    unit: str
    second: str
    comparison: Comparison
    outcomes: str = ""

    @property
    def has_p(self) -> bool:
        """Return False for losses of one seed, of which items explain the least part."""
        return self.comparison.is_answers or self.comparison.seeds > 1


class Judged(NamedTuple):
    """A row in its family: `adjusted_p` is Holm's for all `comparisons`.

    `same_as` names an earlier figure with the same outcome for every item.
    """

    row: Row
    adjusted_p: float
    comparisons: int
    same_as: str | None

    @property
    def is_different(self) -> bool:
        """Return whether the conditions differ, or with one seed the networks, by more than items explain."""
        return self.adjusted_p < SIGNIFICANT

    @property
    def holm_p(self) -> float | None:
        return self.adjusted_p if self.row.has_p else None

    @property
    def detectable(self) -> float | None:
        return self.row.comparison.detectable_among(self.comparisons) if self.row.has_p else None

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of all that can be said: over seeds if there are several, else over items."""
        return self.row.comparison.seeds_interval_95 or self.row.comparison.items_interval_95


def compare_outcomes(
    model: str, figure: str, second: str, arms: tuple[list[Outcomes], list[Outcomes]]
) -> Row:
    """Compare two arms, each of the same seeds in the same order.

    An ending that is longer than the context is measured on its last tokens only, other bytes with another tokenizer: an item
    whose weight differs between the arms is left out. Raises ValueError unless all answered the same items.
    """
    asked = {outcomes.items for arm in arms for outcomes in arm}
    if len(asked) != 1:
        raise ValueError(f"{model}, {figure}: answered {len(asked)} sets of items")
    # Outcomes that an older revision kept do not say how items are crossed; the items are the same.
    one = next((outcomes for arm in arms for outcomes in arm if outcomes.crossed), arms[0][0])
    first, others = (np.array([outcomes.values for outcomes in arm]) for arm in arms)
    alike = np.all([outcomes.weights == one.weights for arm in arms for outcomes in arm], axis=0)
    clusters = _numbered(one.clusters)[alike]
    crossed = None if one.crossed is None else _numbered(one.crossed)[alike]
    paired = Paired(first[:, alike], others[:, alike], one.weights[alike], clusters)
    unit = "accuracy" if one.is_answers else "bits per byte"
    parts = [
        part.tobytes() for part in (paired.first, paired.second, paired.weights, paired.clusters)
    ]
    outcomes = hashlib.sha256(b"\0".join([one.items.encode(), *parts])).hexdigest()
    return Row(
        model, figure, unit, second, compare(paired, one.is_answers, crossed=crossed), outcomes
    )


def judge(rows: list[Row]) -> list[Judged]:
    """Return the rows with p values adjusted by Holm for all of them together.

    Figures of one model with the same outcome for every item are one comparison of the family.
    """
    groups = [
        (row.model, row.second, row.outcomes) if row.outcomes else number
        for number, row in enumerate(rows)
    ]
    one_each: dict[Hashable, Row] = {}
    for group, row in zip(groups, rows, strict=True):
        one_each.setdefault(group, row)
    adjusted = dict(
        zip(one_each, holm([row.comparison.p for row in one_each.values()]), strict=True)
    )
    return [
        Judged(
            row,
            adjusted[group],
            len(one_each),
            None if one_each[group] is row else one_each[group].figure,
        )
        for group, row in zip(groups, rows, strict=True)
    ]


def comparison_json(judged: Judged) -> dict[str, Any]:
    """Return all that is said of one comparison; without p where there is none to say."""
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
        numbers = (
            said.difference,
            *judged.interval,
            judged.holm_p,
            said.items,
            said.seeds,
            judged.detectable,
        )
        rows.append(
            [
                row.model,
                row.figure,
                row.unit,
                row.second,
                *numbers,
                "yes" if judged.is_different else "no",
            ]
        )
    return csv_bytes(FIELDS, rows)


def headline(first: str, family: list[Judged], models: dict[str, str]) -> dict[str, Any]:
    """Return what a metrics file shows of some models' comparisons: values and differences.

    With several seeds also the difference's p: one seed says nothing about conditions. `models`
    maps those models to what they are called there.
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
    """Return a table, a row for each comparison; the interval is over seeds if there are several, else over items."""
    others = sorted({judged.row.second for judged in family})
    is_one = len(others) == 1
    second = others[0] if is_one else "other"
    columns = [
        "Model",
        "Figure",
        "n",
        "Clusters",
        first,
        second,
        "Difference",
        "95 %",
        "p",
        "Holm p",
        "Detectable",
    ]
    rows = []
    for judged in family:
        row, said = judged.row, judged.row.comparison
        low, high = judged.interval
        few = " (few)" if said.effective_clusters < FEW_CLUSTERS else ""
        rows.append(
            [
                words(row.model),
                words(_named(row)),
                count(said.items),
                Cell(f"{said.effective_clusters:,.0f}{few}", said.effective_clusters),
                Cell(f"{said.first:.4f}", said.first),
                Cell(f"{'' if is_one else row.second + ' '}{said.second:.4f}", said.second),
                Cell(f"{said.difference:+.4f}", said.difference),
                Cell(f"{low:+.4f} to {high:+.4f}", [low, high]),
                _p(said.p if row.has_p else None),
                _p(judged.holm_p),
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
        by = "95 % and p over other items, of products other wordings; no p for bits per byte, with one seed each"
    number = max((judged.comparisons for judged in family), default=0)
    return f"the same items; {by}; Holm p and Detectable for all {number} comparisons together"


def sentences(first: str, family: list[Judged], is_revisions: bool = False) -> list[str]:
    """Return what the comparisons say: the verdict, then a sentence for each difference.

    With one seed the verdict is about networks, of conditions or of revisions, and never about
    conditions.
    """
    if not family:
        return ["There is nothing to compare."]
    once = [judged for judged in family if judged.same_as is None]
    different = [judged for judged in once if judged.is_different]
    if any(judged.row.comparison.seeds == 1 for judged in once):
        verdict = (
            _between_revisions(first, once, different)
            if is_revisions
            else _between_networks(first, once, different)
        )
    else:
        found = (
            f"{len(different)} of {len(once)} comparisons find"
            if different
            else f"No comparison of {len(once)} finds"
        )
        verdict = f"{found} a difference (p < {SIGNIFICANT} after Holm's correction)."
    return [verdict, *(_difference(first, judged) for judged in different)]


_PROCESSOR = "the same code and seed on another processor may differ from itself by as much."


def _between_networks(first: str, once: list[Judged], different: list[Judged]) -> str:
    is_one = len({judged.row.second for judged in once}) == 1
    who = "These two networks differ" if is_one else f"These networks differ from that of {first}"
    found = f"{who} by more than other items explain in {_of_figures(once, different)}"
    return f"Nothing here is evidence about the conditions. {found}" + (
        f"; {_PROCESSOR}" if different else "."
    )


def _between_revisions(first: str, once: list[Judged], different: list[Judged]) -> str:
    found = f"The working tree differs from {first} by more than other items explain in {_of_figures(once, different)}."
    return found + (
        f" Where networks were trained again that may be chance: {_PROCESSOR}" if different else ""
    )


def _of_figures(once: list[Judged], different: list[Judged]) -> str:
    """Return how many figures differ and what they measure: `2 of 21 figures, both bits per byte`."""
    number = len(different)
    if not number:
        return f"none of {len(once)} figures"
    losses = sum(not judged.row.comparison.is_answers for judged in different)
    said = f"{number} of {len(once)} figures"
    if 0 < losses < number:
        return f"{said}, {losses} of them bits per byte"
    kind = "bits per byte" if losses else "accuracies"
    if number == 1:
        return f"{said}, {kind if losses else 'an accuracy'}"
    return f"{said}, {'both' if number == 2 else 'all'} {kind}"


def limits(family: list[Judged]) -> list[str]:
    """Return what could not have been seen, and what narrows what was.

    A sentence for each figure of the last checkpoint and of the fine-tuned model; before them, what
    is to be known of clusters.
    """
    last = {
        (judged.row.model == "fine-tuned", judged.row.figure, judged.row.second): judged
        for judged in family
    }
    found = []
    if any(judged.row.comparison.crossed is not None for judged in last.values()):
        found.append(
            "Products: all facts are asked for, so intervals and p are about other wordings; "
            "answers are clustered by fact and by form."
        )
    for judged in last.values():
        row, said = judged.row, judged.row.comparison
        if said.effective_clusters < FEW_CLUSTERS:
            found.append(
                f"{_start(row)} its items are worth {said.effective_clusters:.1f} clusters of equal weight, "
                f"fewer than {FEW_CLUSTERS}: its interval and p are rough."
            )
    found += [
        f"{_start(judged.row)} every item came out as in {judged.same_as}: the two are one comparison."
        for judged in last.values()
        if judged.same_as is not None
    ]
    return found + [_limit(judged) for judged in last.values() if judged.same_as is None]


def _difference(first: str, judged: Judged) -> str:
    row, said = judged.row, judged.row.comparison
    low, high = judged.interval
    p = f", p {_p(judged.holm_p).text}" if row.has_p else ""
    return (
        f"{row.model}, {_named(row)}: {row.second} {said.second:.4f}, {first} {said.first:.4f}, difference "
        f"{said.difference:+.4f} ({low:+.4f} to {high:+.4f}){p}."
    )


def _limit(judged: Judged) -> str:
    row, said = judged.row, judged.row.comparison
    seeds = "one seed" if said.seeds == 1 else f"{said.seeds} seeds"
    start = f"{_start(row)} with {said.items:,} items and {seeds}, "
    if not row.has_p:
        return (
            start + "no p: two networks of one condition differ by more than other items explain."
        )
    if said.student.error == 0:
        return (
            start
            + ("no answer differs" if said.difference == 0 else "all differ alike")
            + ": nothing tells what could be seen."
        )
    if judged.detectable is None:
        return start + "no possible difference would be found reliably" + _reliably(judged)
    return (
        start
        + f"differences under {judged.detectable:.4f} cannot be seen reliably"
        + _reliably(judged)
    )


def _reliably(judged: Judged) -> str:
    return f" ({POWER:.0%} power, corrected for {judged.comparisons} comparisons)."


def _start(row: Row) -> str:
    return f"{row.second}, {row.model}, {_named(row)}:"


def _named(row: Row) -> str:
    return row.figure if row.unit == "accuracy" else f"{row.figure} ({row.unit}, less is better)"


def _p(value: float | None) -> Cell:
    if value is None:
        return Cell("", None)
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)


def _numbered(clusters: list[str]) -> NDArray[np.int64]:
    return np.unique(clusters, return_inverse=True)[1]


def _slug(words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
