"""Two conditions on the same items: their difference, how sure it is, and what could not have been seen.

Everything is made of differences by item, second condition minus first, summed over clusters of items (two questions about one
video are no two witnesses) and divided by weights: 1 for an answer, bytes for bits per byte.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

RESAMPLES = 4999
POWER = 0.8
_LEVEL = 0.95
_AT_ONCE = 500  # resamples; a thousand clusters of them are a few megabytes

Floats = NDArray[np.float64]


class Paired(NamedTuple):
    """Values of both conditions by seed and item, float64 (seeds, items), and each item's weight and cluster, (items,).

    A condition's figure for a seed is the sum of its values over the sum of the weights.
    """

    first: Floats
    second: Floats
    weights: Floats
    clusters: NDArray[np.int64]


class Comparison(NamedTuple):
    """What one figure says of two conditions; `difference` is the second's less the first's, over all seeds.

    `items_interval_95` and `items_p` are about these networks on other items. `seeds_interval_95` and `seeds_p` are about other
    networks of the same conditions too, and None with one seed, which cannot tell. `mcnemar_p` is of answers of one seed, right
    or wrong, as if no two items shared a source. `detectable` is the true difference that would be found four times in five, by
    one comparison without correction, over seeds if there are several; None where nothing varied.
    """

    first: float
    second: float
    difference: float
    items: int
    seeds: int
    items_interval_95: tuple[float, float]
    items_p: float
    mcnemar_p: float | None
    seeds_interval_95: tuple[float, float] | None
    seeds_p: float | None
    detectable: float | None

    @property
    def p(self) -> float:
        """Of what can be said at all: over seeds if there are several."""
        return self.items_p if self.seeds_p is None else self.seeds_p


def compare(paired: Paired, is_answers: bool, seed: int = 0) -> Comparison:
    """Compare two conditions; `seed` is that of the resampling.

    Raises ValueError without items, or where all of them are one cluster, of which nothing can be resampled.
    """
    seeds, items = paired.first.shape
    weight = float(paired.weights.sum())
    differences, weights = by_cluster(paired)
    if not items or len(weights) < 2:
        raise ValueError(f"{items} items in {len(weights)} clusters; a comparison needs two clusters")
    of_items = differences.mean(axis=0)
    difference = float(of_items.sum() / weight)
    items_error = float(_items_error(of_items, weights))
    items_interval, items_p = bootstrap(of_items, weights, seed)
    over_seeds = _seeds_error(differences, weights) if seeds > 1 else None
    return Comparison(
        first=float(paired.first.mean(axis=0).sum() / weight),
        second=float(paired.second.mean(axis=0).sum() / weight),
        difference=difference,
        items=items,
        seeds=seeds,
        items_interval_95=items_interval,
        items_p=items_p,
        mcnemar_p=mcnemar_p(paired.first[0], paired.second[0]) if is_answers and seeds == 1 else None,
        seeds_interval_95=None if over_seeds is None else _student_interval(difference, over_seeds, seeds - 1),
        seeds_p=None if over_seeds is None else _student_p(difference, over_seeds, seeds - 1),
        detectable=_detectable(items_error, len(weights) - 1) if over_seeds is None else _detectable(over_seeds, seeds - 1),
    )


def by_cluster(paired: Paired) -> tuple[Floats, Floats]:
    """Return differences summed over clusters, (seeds, clusters), and their weights, (clusters,)."""
    _, members = np.unique(paired.clusters, return_inverse=True)
    count = int(members.max(initial=-1)) + 1
    sums = [np.bincount(members, weights=row, minlength=count) for row in paired.second - paired.first]
    return np.array(sums), np.bincount(members, weights=paired.weights, minlength=count)


def bootstrap(differences: Floats, weights: Floats, seed: int) -> tuple[tuple[float, float], float]:
    """Return the 95 % interval of a ratio of sums over clusters, and p of its being 0.

    Both are the studentized bootstrap's (Efron and Tibshirani 1993, chapters 12 and 16), and at least Student's; the interval
    leaves 0 out where p < 0.05. With as few clusters as the generated problems have, 18, a percentile interval is too narrow, and
    the studentized one still a little, for resamples of few answers repeat themselves.
    """
    estimate = float(differences.sum() / weights.sum())
    error = float(_items_error(differences, weights))
    if error == 0:  # every cluster has the same difference, none as a rule
        return (estimate, estimate), _student_p(estimate, error, len(weights) - 1)
    deviations = _deviations(differences, weights, estimate, np.random.default_rng(seed))
    # Of n values the kth stands for k / (n + 1); numpy's own rule has the tails a little too near.
    low, high = np.quantile(deviations, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], method="weibull")
    student = float(stats.t.ppf((1 + _LEVEL) / 2, len(weights) - 1))
    interval = estimate - max(float(high), student) * error, estimate - min(float(low), -student) * error
    observed = estimate / error
    # Where no resample is as far off, Student's p is all there is to tell how small it is.
    tail = min(float((deviations >= observed).mean()), float((deviations <= observed).mean()))
    return interval, max(min(1.0, 2 * tail), _student_p(estimate, error, len(weights) - 1))


def _deviations(differences: Floats, weights: Floats, estimate: float, generator: np.random.Generator) -> Floats:
    """Return how many of their own standard errors the estimates of resampled clusters are off `estimate`."""
    parts = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        drawn = generator.integers(len(weights), size=(min(_AT_ONCE, RESAMPLES - start), len(weights)))
        sums, totals = differences[drawn], weights[drawn]
        errors = _items_error(sums, totals)
        # A resample of one cluster over and over has no error of its own; it says nothing about how far off estimates are.
        parts.append((sums.sum(axis=1) / totals.sum(axis=1) - estimate)[errors > 0] / errors[errors > 0])
    return np.concatenate(parts)


def mcnemar_p(first: Floats, second: Floats) -> float:
    """Return McNemar's exact p (1947): of the items that one condition alone has right, is half the first's?"""
    only_first, only_second = int(((first == 1) & (second == 0)).sum()), int(((first == 0) & (second == 1)).sum())
    return float(mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue) if only_first + only_second else 1.0


def holm(p_values: list[float]) -> list[float]:
    """Return p values adjusted for their number (Holm 1979): the chance that luck alone brings any below 5 % is at most that."""
    return multipletests(p_values, method="holm")[1].tolist() if p_values else []


def _seeds_error(differences: Floats, weights: Floats) -> float:
    """Return the standard error of the mean difference, of (seeds, clusters) of sums, over seeds and items.

    Seeds and clusters are crossed: every network answers the same items. The variance is that by seeds and that by clusters less
    that by both, which the two have in common (Cameron, Gelbach and Miller 2011).
    """
    seeds, count = differences.shape
    total = weights.sum()
    by_seed = differences.sum(axis=1) / total
    of_seeds = float(by_seed.var(ddof=1)) / seeds
    of_items = float(_items_error(differences.mean(axis=0), weights)) ** 2
    residuals = differences - differences.mean(axis=0) - np.outer(by_seed - by_seed.mean(), weights)
    of_both = float((residuals**2).sum()) * count / (count - 1) / (seeds * (seeds - 1)) / float(total) ** 2
    return math.sqrt(max(of_seeds + of_items - of_both, of_seeds, of_items))


def _student_interval(difference: float, error: float, freedom: int) -> tuple[float, float]:
    """Return the 95 % interval by Student's t.

    Over seeds `freedom` is seeds - 1, as if they were all of the variance: right where they are, too wide where they are not.
    Satterthwaite's degrees of freedom, or a bootstrap of seeds and items, are too narrow with two or three seeds (see the tests).
    """
    spread = float(stats.t.ppf((1 + _LEVEL) / 2, freedom)) * error
    return difference - spread, difference + spread


def _student_p(difference: float, error: float, freedom: int) -> float:
    if error == 0:  # where all clusters or seeds agree, their number is all there is to go by: the sign test
        return 1.0 if difference == 0 else 2.0**-freedom
    return float(2 * stats.t.sf(abs(difference) / error, freedom))


def _items_error(differences: Floats, weights: Floats) -> Floats:
    """Return the standard error of sum / sum over the last axis, of clusters, linearized as survey statistics has it."""
    count = weights.shape[-1]
    totals = weights.sum(axis=-1)
    estimates = differences.sum(axis=-1) / totals
    residuals = differences - np.expand_dims(estimates, -1) * weights
    return np.sqrt((residuals**2).sum(axis=-1) * count / (count - 1)) / totals


def _detectable(error: float, freedom: int) -> float | None:
    """Return the true difference that Student's test finds with a probability of `POWER`; None without any variation."""
    critical = float(stats.t.ppf((1 + _LEVEL) / 2, freedom))

    def lacking(shift: float) -> float:  # a difference found the wrong way round is none
        return float(stats.nct.sf(critical, freedom, shift)) - POWER

    return brentq(lacking, 0.0, 4 * critical) * error if error else None
