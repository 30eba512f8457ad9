"""All comparisons of a run as one family, each p corrected for their number.

With several seeds, few figures have a p, and they are fixed beforehand. The primary one is the
validation loss, tested at 0.05 alone. The secondary ones are corrected for their own number. All
others are described: they have an interval and no p. With one seed nothing is evidence about the
conditions, and all figures of a condition are one family.
"""

import hashlib
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.comparison.outcomes import Outcomes, Role
from model.statistics.over_seeds import SIGNIFICANT
from model.statistics.paired import Comparison, Paired, Term, compare_sum, holm

ACCURACY, BITS_PER_BYTE, ABOVE_CHANCE = "accuracy", "bits per byte", "share above chance"


class Row(NamedTuple):
    """One comparison of a condition, `second`, with the first: model, figure, unit, result.

    `outcomes` is a hash of both arms' outcomes of every item; rows of one model that share it are
    one comparison. `role` says which family the row is tested in.
    """

    model: str
    figure: str
    unit: str
    second: str
    comparison: Comparison
    outcomes: str = ""
    role: Role = ""

    @property
    def has_p(self) -> bool:
        """Return whether the row has a p.

        With one seed a loss has none: two networks differ by more than items explain.
        """
        several = self.comparison.seeds > 1
        return self.role != "" if several else self.comparison.is_answers

    @property
    def name(self) -> str:
        """Return the figure's name; one that is no accuracy has its unit, a loss its direction."""
        if self.unit == ACCURACY:
            return self.figure
        better = ", less is better" if self.unit == BITS_PER_BYTE else ""
        return f"{self.figure} ({self.unit}{better})"


class Judged(NamedTuple):
    """A row in its family: `adjusted_p` is Holm's for all `comparisons`, None of a described row.

    `same_as` names an earlier figure with the same outcome for every item.
    """

    row: Row
    adjusted_p: float | None
    comparisons: int
    same_as: str | None

    @property
    def is_different(self) -> bool:
        """Return whether the conditions, with one seed the networks, differ significantly."""
        return self.adjusted_p is not None and self.adjusted_p < SIGNIFICANT

    @property
    def holm_p(self) -> float | None:
        return self.adjusted_p if self.row.has_p else None

    @property
    def detectable(self) -> float | None:
        return self.row.comparison.detectable_among(self.comparisons) if self.row.has_p else None

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval over seeds if there are several, else over items."""
        return self.row.comparison.seeds_interval_95 or self.row.comparison.items_interval_95


Arms = tuple[list[Outcomes], list[Outcomes]]


def compare_outcomes(model: str, figure: str, second: str, arms: Arms) -> Row:
    """Compare two arms, each of the same seeds in the same order.

    Raises ValueError unless all answered the same items.
    """
    term, outcomes = matched(f"{model}, {figure}", arms)
    one = arms[0][0]
    unit = ACCURACY if one.is_answers else BITS_PER_BYTE
    found = compare_sum([term], one.is_answers)
    return Row(model, figure, unit, second, found, outcomes, one.role)


def matched(name: str, arms: Arms) -> tuple[Term, str]:
    """Return the values of both arms on the items that they share, and a hash of them.

    An ending longer than the context is measured on its last tokens only, which are other bytes
    with another tokenizer: an item whose weight differs between the arms is left out. Raises
    ValueError unless all answered the same items.
    """
    asked = {outcomes.items for arm in arms for outcomes in arm}
    if len(asked) != 1:
        raise ValueError(f"{name}: answered {len(asked)} sets of items")
    # An older revision's outcomes lack `crossed`; the items are the same.
    one = next((outcomes for arm in arms for outcomes in arm if outcomes.crossed), arms[0][0])
    first, others = (np.array([outcomes.values for outcomes in arm]) for arm in arms)
    alike = np.all([outcomes.weights == one.weights for arm in arms for outcomes in arm], axis=0)
    clusters = _numbered(one.clusters)[alike]
    crossed = None if one.crossed is None else _numbered(one.crossed)[alike]
    paired = Paired(first[:, alike], others[:, alike], one.weights[alike], clusters)
    parts = [
        part.tobytes() for part in (paired.first, paired.second, paired.weights, paired.clusters)
    ]
    return Term(paired, crossed), hashlib.sha256(
        b"\0".join([one.items.encode(), *parts])
    ).hexdigest()


def judge(rows: list[Row]) -> list[Judged]:
    """Return the rows with p values adjusted by Holm within their family.

    Several conditions are compared with the first one: their primary figures are one family, which
    for a single condition has one member, and their secondary figures another. Figures of one model
    with the same outcome for every item are one comparison of the family.
    """
    keys: list[Hashable] = [
        (row.model, row.second, row.outcomes) if row.outcomes else number
        for number, row in enumerate(rows)
    ]
    one_each: dict[Hashable, Row] = {}
    for key, row in zip(keys, rows, strict=True):
        one_each.setdefault(key, row)
    families: dict[Hashable, list[Hashable]] = {}
    for key, row in one_each.items():
        families.setdefault(_family(row), []).append(key)
    adjusted: dict[Hashable, float | None] = dict.fromkeys(one_each)
    for role, members in families.items():
        if role != "":
            found = holm([one_each[key].comparison.p for key in members])
            adjusted |= dict(zip(members, found, strict=True))
    return [
        Judged(
            row,
            adjusted[key],
            len(families[_family(one_each[key])]),
            None if one_each[key] is row else one_each[key].figure,
        )
        for key, row in zip(keys, rows, strict=True)
    ]


def _family(row: Row) -> Hashable:
    """Return what the rows of one family share; of rows that are described only, an empty string.

    With one seed each condition has a family of its own. A p of resamples has a floor, and one
    family of many conditions would have so many members that no p could pass.
    """
    return row.role if row.comparison.seeds > 1 else (row.second,)


def p_words(value: float | None) -> str:
    """Return p in three decimals, `< 0.001` for a smaller one, nothing for none."""
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _numbered(clusters: list[str]) -> NDArray[np.int64]:
    return np.unique(clusters, return_inverse=True)[1]
