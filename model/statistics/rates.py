"""Rates with 95 % intervals that account for clusters: items that share a source."""

import math
from typing import NamedTuple

import numpy as np


class Rate(NamedTuple):
    correct: int
    interval_95: tuple[float, float]
    rate: float
    total: int


def rate(correct: np.ndarray, clusters: list[str]) -> Rate:
    """Return the share of True in `correct` (items,) with its 95 % interval.

    The interval is Wilson's (1927) for n / design effect items, as Korn and Graubard (1998) adapt
    intervals of proportions to clustered samples. The design effect is the cluster-robust variance
    over the binomial one, at least 1. If all answers are alike, the similarity within clusters
    cannot be estimated, so each cluster counts as one item. Raises ValueError without items.
    """
    total = len(correct)
    if not total:
        raise ValueError("a rate needs at least one item")
    hits = int(np.count_nonzero(correct))
    share = hits / total
    effective = total / _design_effect(correct, clusters, share)
    return Rate(hits, _wilson(share, effective), share, total)


def _design_effect(correct: np.ndarray, clusters: list[str], share: float) -> float:
    _, members = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(members.max()) + 1
    binomial = share * (1 - share) * len(correct)
    if binomial == 0:
        return len(correct) / count
    if count < 2:
        return 1.0
    residuals = np.bincount(members, weights=np.asarray(correct, dtype=float) - share)
    return max(1.0, float((residuals**2).sum()) * count / (count - 1) / binomial)


def _wilson(share: float, total: float) -> tuple[float, float]:
    z = 1.959963984540054  # the normal distribution's 97.5 % point
    centre = share + z * z / (2 * total)
    spread = z * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
