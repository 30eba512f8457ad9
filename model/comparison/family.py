"""All comparisons of a run as one family, each p corrected for their number."""

import hashlib
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.comparison.outcomes import Outcomes
from model.statistics.paired import SIGNIFICANT, Comparison, Paired, compare, holm


class Row(NamedTuple):
    """One comparison of a condition, `second`, with the first: model, figure, unit, result.

    `outcomes` is a hash of both arms' outcomes of every item; rows of one model that share it are
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
        """Return False for losses of one seed: two networks differ by more than items explain."""
        return self.comparison.is_answers or self.comparison.seeds > 1

    @property
    def name(self) -> str:
        """Return the figure's name; a loss has its unit and direction."""
        is_accuracy = self.unit == "accuracy"
        return self.figure if is_accuracy else f"{self.figure} ({self.unit}, less is better)"


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
        """Return whether the conditions, with one seed the networks, differ significantly."""
        return self.adjusted_p < SIGNIFICANT

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


def compare_outcomes(
    model: str, figure: str, second: str, arms: tuple[list[Outcomes], list[Outcomes]]
) -> Row:
    """Compare two arms, each of the same seeds in the same order.

    An ending longer than the context is measured on its last tokens only, which are other bytes
    with another tokenizer: an item whose weight differs between the arms is left out. Raises
    ValueError unless all answered the same items.
    """
    asked = {outcomes.items for arm in arms for outcomes in arm}
    if len(asked) != 1:
        raise ValueError(f"{model}, {figure}: answered {len(asked)} sets of items")
    # An older revision's outcomes lack `crossed`; the items are the same.
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


def p_words(value: float | None) -> str:
    """Return p in three decimals, `< 0.001` for a smaller one, nothing for none."""
    if value is None:
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _numbered(clusters: list[str]) -> NDArray[np.int64]:
    return np.unique(clusters, return_inverse=True)[1]
