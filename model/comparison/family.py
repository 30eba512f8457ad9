"""All comparisons of a run, in families whose p values are corrected for their number.

With several seeds only a few figures, fixed beforehand, have a p:

- primary: the validation loss, tested at 0.05. Its family has one member for each condition but
  the first.
- secondary: corrected for the number of secondary comparisons.
- described: all other figures. They have an interval and no p.

One seed gives no evidence about the conditions. All figures of a condition are then one family.
"""

import hashlib
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.comparison.outcomes import Outcomes, Role
from model.statistics.over_seeds import SIGNIFICANT
from model.statistics.paired import Comparison, Paired, Term, compare_sum, holm

# The units of figures.
ACCURACY, BITS_PER_BYTE, ABOVE_CHANCE = "accuracy", "bits per byte", "share above chance"


class Row(NamedTuple):
    """One comparison of a condition, `second`, with the first condition."""

    # "step 500", "fine-tuned" or "mean of 9 checkpoints"
    model: str
    figure: str
    unit: str
    second: str
    comparison: Comparison
    # A SHA-256 of both arms' outcomes of every item. Rows of one model that share it count as one
    # comparison.
    outcomes: str = ""
    # The family in which the row is tested.
    role: Role = ""

    @property
    def has_p(self) -> bool:
        """Return True if the row has a p.

        With one seed a loss has none, since two networks of one condition differ by more than the
        variation over items.
        """
        several = self.comparison.seeds > 1
        return self.role != "" if several else self.comparison.is_answers

    @property
    def name(self) -> str:
        """Return the figure's name, with its unit unless that is accuracy."""
        if self.unit == ACCURACY:
            return self.figure
        better = ", less is better" if self.unit == BITS_PER_BYTE else ""
        return f"{self.figure} ({self.unit}{better})"


class Judged(NamedTuple):
    """A row with the result of its family."""

    row: Row
    # Holm's p among `comparisons`; None for a described row.
    adjusted_p: float | None
    # The number of members of the family.
    comparisons: int
    # An earlier figure with the same outcome for every item.
    same_as: str | None

    @property
    def is_different(self) -> bool:
        """Return True if the conditions differ significantly; with one seed, the two networks."""
        return self.adjusted_p is not None and self.adjusted_p < SIGNIFICANT

    @property
    def holm_p(self) -> float | None:
        """Return the adjusted p, or None if the row has none."""
        return self.adjusted_p if self.row.has_p else None

    @property
    def detectable(self) -> float | None:
        """Return the difference that is found four times in five within this family, or None."""
        return self.row.comparison.detectable_among(self.comparisons) if self.row.has_p else None

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval over seeds if there are several, else over items."""
        return self.row.comparison.seeds_interval_95 or self.row.comparison.items_interval_95


# The outcomes of one figure by seed: of the first condition, and of the second.
Arms = tuple[list[Outcomes], list[Outcomes]]


def compare_outcomes(model: str, figure: str, second: str, arms: Arms) -> Row:
    """Compare two arms, which have the same seeds in the same order.

    Raises ValueError unless all runs answered the same items.
    """
    term, outcomes = matched(f"{model}, {figure}", arms)
    one = arms[0][0]
    unit = ACCURACY if one.is_answers else BITS_PER_BYTE
    found = compare_sum([term], one.is_answers)
    return Row(model, figure, unit, second, found, outcomes, one.role)


def matched(name: str, arms: Arms) -> tuple[Term, str]:
    """Return the values of both arms on the items that they share, and a SHA-256 of them.

    An item whose weight (bytes) differs between runs is left out. This happens where an ending is
    longer than the model's context: only its last tokens are scored, and with another tokenizer
    those are other bytes. Raises ValueError unless all runs answered the same items.
    """
    asked = {outcomes.items for arm in arms for outcomes in arm}
    if len(asked) != 1:
        raise ValueError(f"{name}: answered {len(asked)} sets of items")
    # Outcomes of an older revision lack `crossed`. The items are the same, so any run's will do.
    one = next((outcomes for arm in arms for outcomes in arm if outcomes.crossed), arms[0][0])
    # (seeds, items) each
    first, others = (np.array([outcomes.values for outcomes in arm]) for arm in arms)
    # (items,) bool: the item has the same weight in every run
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

    The primary figures of all conditions are one family, their secondary figures another. Figures
    of one model with the same outcome for every item count once in their family.
    """
    # One key for each comparison; rows with the same key are one comparison.
    keys: list[Hashable] = [
        (row.model, row.second, row.outcomes) if row.outcomes else number
        for number, row in enumerate(rows)
    ]
    # The first row of each comparison stands for it.
    one_each: dict[Hashable, Row] = {}
    for key, row in zip(keys, rows, strict=True):
        one_each.setdefault(key, row)
    families: dict[Hashable, list[Hashable]] = {}
    for key, row in one_each.items():
        families.setdefault(_family(row), []).append(key)
    adjusted: dict[Hashable, float | None] = dict.fromkeys(one_each)
    # "" is the family of described rows, whose p stays None.
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
    """Return the key of the row's family, "" for a described row.

    With one seed each condition has a family of its own. The bootstrap's p is at least 0.0004, so
    in one family of many conditions no corrected p could be below 0.05.
    """
    return row.role if row.comparison.seeds > 1 else (row.second,)


def p_words(value: float | None) -> str:
    """Return p with three decimals: "0.012", "< 0.001", or "" if there is none."""
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _numbered(clusters: list[str]) -> NDArray[np.int64]:
    """Return each item's cluster as a number: ["b", "a", "b"] gives [1, 0, 1]."""
    return np.unique(clusters, return_inverse=True)[1]
