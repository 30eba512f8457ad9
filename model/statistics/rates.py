"""Rates with 95 % intervals that account for clusters, which are items that share a source."""

import math
from typing import NamedTuple

import numpy as np


class Rate(NamedTuple):
    """`correct` of `total` items, their share `rate` (0 to 1) and its 95 % interval."""

    correct: int
    interval_95: tuple[float, float]
    rate: float
    total: int


def rate(correct: np.ndarray, clusters: list[str]) -> Rate:
    """Return the share of True in `correct` (items,) with its 95 % interval.

    `clusters` (items,) names each item's cluster. The interval is Wilson's (1927) for n / design
    effect items, as Korn and Graubard (1998) adapt intervals of proportions to clustered samples.
    The design effect is the cluster-robust variance over the binomial one, at least 1. If all
    answers are equal, the similarity within clusters cannot be estimated, so each cluster counts as
    one item.

    Example: 4 of 8 answers are right. In 8 clusters the interval is 0.22 to 0.78. In 4 pairs whose
    answers agree, the design effect is 8/3 and the interval 0.13 to 0.87.

    Raises ValueError without items.
    """
    total = len(correct)
    if not total:
        raise ValueError("a rate needs at least one item")
    hits = int(np.count_nonzero(correct))
    share = hits / total
    # The number of independent items that carry as much information.
    effective = total / _design_effect(correct, clusters, share)
    return Rate(hits, _wilson(share, effective), share, total)


def _design_effect(correct: np.ndarray, clusters: list[str], share: float) -> float:
    """Return the variance of the number of right answers over that of independent items."""
    # (items,): each item's cluster as a number from 0
    _, members = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(members.max()) + 1
    # Variance of the number of right answers if items were independent.
    binomial = share * (1 - share) * len(correct)
    if binomial == 0:
        return len(correct) / count
    if count < 2:
        return 1.0
    # (clusters,): right answers of each cluster beyond its expected number
    residuals = np.bincount(members, weights=np.asarray(correct, dtype=float) - share)
    # count / (count - 1) corrects for estimating the share from the same clusters.
    return max(1.0, float((residuals**2).sum()) * count / (count - 1) / binomial)


def _wilson(share: float, total: float) -> tuple[float, float]:
    """Return Wilson's 95 % score interval; unlike share ± 2 errors it stays within 0 and 1."""
    z = 1.959963984540054  # the normal distribution's 97.5 % point
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
