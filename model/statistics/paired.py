"""Two conditions on the same items: their difference, how sure it is, and what could not have been seen.

A comparison is made of differences by item, second condition minus first, summed over clusters
(items that share a source are not independent) and divided by weights: 1 for an answer, bytes for
bits per byte. Several tests are made of them, each for a way in which the others are too sure; p is
the largest of their p, and the interval the widest of theirs.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

RESAMPLES = 4999
POWER = 0.8
# With fewer, resamples repeat each other: Student's t is used alone, and a note warns.
FEW_CLUSTERS = 8
SIGNIFICANT = 0.05
_AT_ONCE = 500  # resamples; a thousand clusters of them are a few megabytes
# An error below this part of the mean absolute difference is rounding, and counts as zero.
_ROUNDING = 1e-9

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Paired(NamedTuple):
    """Values of both conditions by seed and item, float64 (seeds, items), and each item's weight and cluster, (items,).

    A condition's figure for a seed is the sum of its values over the sum of the weights.
    """

    first: Floats
    second: Floats
    weights: Floats
    clusters: Ints


class Student(NamedTuple):
    """A standard error, and the degrees of freedom of Student's t for it."""

    error: float
    freedom: float

    def half(self) -> float:
        """Return half the width of the 95 % interval."""
        return float(stats.t.ppf(1 - SIGNIFICANT / 2, self.freedom)) * self.error

    def p(self, difference: float) -> float:
        """Return p; where all clusters or seeds agree, that of the sign test.

        Their number is all that is known then.
        """
        if self.error == 0:
            return 1.0 if difference == 0 else 2.0**-self.freedom
        return float(2 * stats.t.sf(abs(difference) / self.error, self.freedom))

    def detectable(self, level: float) -> float:
        """Return the true difference whose p is below `level` with a probability of `POWER`."""
        critical = float(stats.t.ppf(1 - level / 2, self.freedom))

        def lacking(shift: float) -> float:  # a difference found the wrong way round is none
            return float(stats.nct.sf(critical, self.freedom, shift)) - POWER

        return brentq(lacking, 0.0, 4 * critical) * self.error


class Signs(NamedTuple):
    """Of `clusters`, the share that differ, and what one of them changes the figure by on average."""

    clusters: int
    differ: float
    step: float

    def detectable(self, level: float) -> float | None:
        """Return the true difference that the test of signs finds with a probability of `POWER`.

        None if it finds none. A difference of d is a surplus of d / `step` clusters that differ in
        its direction, out of those that differ at all.
        """
        differing = np.arange(self.clusters + 1)
        # Of n that differ, more than this in one direction are found.
        critical = stats.binom.isf(level / 2, differing, 0.5)

        def lacking(surplus: float) -> float:
            share = max(self.differ, surplus)
            found = stats.binom.sf(critical, differing, (1 + surplus / share) / 2)
            return float(stats.binom.pmf(differing, self.clusters, share) @ found) - POWER

        if lacking(1.0) < 0:
            return None
        return brentq(lacking, 1e-9, 1.0) * self.clusters * self.step


class Comparison(NamedTuple):
    """What one figure says of two conditions; `difference` is the second's less the first's, over all seeds.

    `items_interval_95` and `items_p` are about these networks on other items. `seeds_interval_95`
    and `seeds_p` are about other networks of the same conditions too, and None with one seed, which
    cannot tell. `mcnemar_p` is of answers of one seed, right or wrong, as if no two items shared a
    source. `effective_clusters` is how many clusters of equal weight are worth as much, and
    `crossed` how many clusters there are in the second way, if there is one; of two ways the lesser
    counts. `student` is the error that `detectable` rests on; `signs` is None unless few clusters
    differ.
    """

    first: float
    second: float
    difference: float
    items: int
    seeds: int
    clusters: int
    crossed: int | None
    effective_clusters: float
    items_interval_95: tuple[float, float]
    items_p: float
    mcnemar_p: float | None
    seeds_interval_95: tuple[float, float] | None
    seeds_p: float | None
    is_answers: bool
    student: Student
    signs: Signs | None

    @property
    def p(self) -> float:
        """Return p of all that can be said: over seeds if there are several, else over items."""
        return self.items_p if self.seeds_p is None else self.seeds_p

    @property
    def detectable(self) -> float | None:
        """Return what this comparison would detect if it were the only one."""
        return self.detectable_among(1)

    def detectable_among(self, comparisons: int) -> float | None:
        """Return the true difference that is found four times in five among `comparisons`.

        By Holm's correction it is found where its p is below 0.05 / `comparisons`, Holm's first
        step. None where nothing varied, where not even all answers would suffice, or where the
        bootstrap does not resolve so small a p.
        """
        level = SIGNIFICANT / comparisons
        if self.student.error == 0 or (self.seeds == 1 and level <= 2 / (RESAMPLES + 1)):
            return None
        found = self.student.detectable(level)
        if self.signs is not None:
            by_signs = self.signs.detectable(level)
            if by_signs is None:
                return None
            found = max(found, by_signs)
        return None if self.is_answers and found > 1 else found


def compare(
    paired: Paired, is_answers: bool, seed: int = 0, crossed: Ints | None = None
) -> Comparison:
    """Compare two conditions; `seed` is that of the resampling.

    `crossed`, (items,), is a second way to cluster the items, such as the form of a question where
    `paired.clusters` has its fact.
    Raises ValueError without items, or where all of them are one cluster, of which nothing can be resampled.
    """
    seeds, items = paired.first.shape
    weight = float(paired.weights.sum())
    differences, weights = by_cluster(paired)
    if not items or len(weights) < 2:
        raise ValueError(
            f"{items} items in {len(weights)} clusters; a comparison needs two clusters"
        )
    of_items = differences.mean(axis=0)
    difference = float(of_items.sum() / weight)
    student = jackknife(of_items, weights) if crossed is None else _two_way(paired, crossed)
    effective = student.freedom + 1
    # Of several seeds the sums are whole numbers too; the test of signs knows no scale.
    signs = _signs(differences.sum(axis=0), weights, items) if is_answers else None
    widths, items_p = _bootstrap(of_items, weights, seed)
    if signs is not None:
        # As if one more cluster differed: a few that happen to agree have next to no error.
        student = student._replace(error=math.hypot(student.error, signs.step / seeds))
        items_p = max(items_p, sign_flip_p(differences.sum(axis=0)))
    items_p = max(items_p, student.p(difference))
    items_interval = _interval(difference, np.maximum(widths, student.half()), items_p, is_answers)
    over_seeds = seeds_p = seeds_interval = None
    if seeds > 1:
        over_seeds = Student(_seeds_error(differences, weights), seeds - 1)
        seeds_p = over_seeds.p(difference)
        seeds_interval = _interval(difference, [over_seeds.half()] * 2, seeds_p, is_answers)
    return Comparison(
        first=float(paired.first.mean(axis=0).sum() / weight),
        second=float(paired.second.mean(axis=0).sum() / weight),
        difference=difference,
        items=items,
        seeds=seeds,
        clusters=len(weights),
        crossed=None if crossed is None else len(np.unique(crossed)),
        effective_clusters=effective,
        items_interval_95=items_interval,
        items_p=items_p,
        mcnemar_p=mcnemar_p(paired.first[0], paired.second[0])
        if is_answers and seeds == 1
        else None,
        seeds_interval_95=seeds_interval,
        seeds_p=seeds_p,
        is_answers=is_answers,
        student=over_seeds or student,
        signs=signs if over_seeds is None else None,
    )


def by_cluster(paired: Paired) -> tuple[Floats, Floats]:
    """Return differences summed over clusters, (seeds, clusters), and their weights, (clusters,)."""
    return _summed(paired.second - paired.first, paired.weights, paired.clusters)


def _summed(rows: Floats, weights: Floats, clusters: Ints) -> tuple[Floats, Floats]:
    _, members = np.unique(clusters, return_inverse=True)
    count = int(members.max(initial=-1)) + 1
    sums = [np.bincount(members, weights=row, minlength=count) for row in rows]
    total = np.bincount(members, weights=weights, minlength=count)
    return np.array(sums), total.astype(np.float64, copy=False)


def bootstrap(differences: Floats, weights: Floats, seed: int) -> tuple[tuple[float, float], float]:
    """Return the 95 % interval of a ratio of sums over clusters, and p of its being 0.

    The interval leaves 0 out where p < 0.05. Both are the wider of two:

    - The studentized bootstrap (Efron and Tibshirani 1993, chapters 12 and 16): how many of their
      own errors resamples are off the estimate. Of B resamples, k as far off to one side as the
      estimate is from 0 make p = 2 (k + 1) / (B + 1). With fewer than `FEW_CLUSTERS` it is left
      out.
    - Student's t with the jackknife's error. Its degrees of freedom are those of clusters of equal
      weight, which a few large clusters among many small ones are less than.
    """
    estimate = float(differences.sum() / weights.sum())
    widths, p = _bootstrap(differences, weights, seed)
    return _interval(estimate, widths, p, is_answers=False), p


def _bootstrap(differences: Floats, weights: Floats, seed: int) -> tuple[Floats, float]:
    """Return how far `bootstrap`'s interval reaches below and above, (2,), and its p."""
    estimate = float(differences.sum() / weights.sum())
    student = jackknife(differences, weights)
    widths, p = np.full(2, student.half()), max(student.p(estimate), 1 / (RESAMPLES + 1))
    error = float(_linearized(differences, weights))
    if error and len(weights) >= FEW_CLUSTERS:
        deviations = _deviations(differences, weights, estimate, np.random.default_rng(seed))
        # Of n values the kth stands for k / (n + 1), in the quantiles as in p.
        low, high = np.quantile(
            deviations, [SIGNIFICANT / 2, 1 - SIGNIFICANT / 2], method="weibull"
        )
        widths = np.maximum(widths, np.array([high, -low]) * error)
        as_far = min(
            int((deviations >= estimate / error).sum()), int((deviations <= estimate / error).sum())
        )
        p = max(p, min(1.0, 2 * (as_far + 1) / (len(deviations) + 1)))
    return widths, p


def _interval(
    estimate: float, widths: Sequence[float] | Floats, p: float, is_answers: bool
) -> tuple[float, float]:
    """Return the interval around `estimate`: with 0 unless p < 0.05, of answers within ±1."""
    low, high = float(estimate - widths[0]), float(estimate + widths[1])
    if p >= SIGNIFICANT:
        low, high = min(low, 0.0), max(high, 0.0)
    return (max(low, -1.0), min(high, 1.0)) if is_answers else (low, high)


def _deviations(
    differences: Floats, weights: Floats, estimate: float, generator: np.random.Generator
) -> Floats:
    """Return how many of their own standard errors the estimates of resampled clusters are off `estimate`."""
    parts = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        drawn = generator.integers(
            len(weights), size=(min(_AT_ONCE, RESAMPLES - start), len(weights))
        )
        sums, totals = differences[drawn], weights[drawn]
        errors = _linearized(sums, totals)
        # A resample of clusters that all agree has no error of its own, and tells nothing.
        off = sums.sum(axis=1) / totals.sum(axis=1) - estimate
        parts.append(off[errors > 0] / errors[errors > 0])
    return np.concatenate(parts)


def mcnemar_p(first: Floats, second: Floats) -> float:
    """Return McNemar's exact p (1947): of the items that one condition alone has right, is half the first's?"""
    only_first, only_second = (
        int(((first == 1) & (second == 0)).sum()),
        int(((first == 0) & (second == 1)).sum()),
    )
    return (
        float(mcnemar([[0, only_first], [only_second, 0]], exact=True).pvalue)
        if only_first + only_second
        else 1.0
    )


def sign_flip_p(differences: Floats) -> float:
    """Return the exact p of whole numbers, (clusters,), by the test that flips their signs.

    Of 1 and -1 it is McNemar's. Without a true difference each cluster's could as well be the
    other condition's. Of all choices of signs, p is the share whose sum is as far from 0 as the sum
    found.
    """
    sizes = np.abs(differences[differences != 0]).round().astype(int)
    total = int(sizes.sum())
    # Chances of the sums -n, 2 - n, 4 - n, … n, for the n that the clusters so far can reach.
    chances = np.ones(1)
    for size in sizes:
        longer = np.zeros(len(chances) + size)
        longer[:-size] += chances / 2
        longer[size:] += chances / 2
        chances = longer
    as_far = np.abs(2 * np.arange(total + 1) - total) >= abs(round(float(differences.sum())))
    return min(1.0, float(chances[as_far].sum()))


def _signs(differences: Floats, weights: Floats, items: int) -> Signs | None:
    """Return what the test of signs goes by; None unless few clusters differ.

    Few are fewer than half of them, and any number where clusters are single items. There
    Student's t and the bootstrap find too much: of 5 items to 0 they have p 0.025, McNemar's is
    0.0625. Where most clusters differ they are right, and the test of signs cannot find anything
    among so few.
    """
    differing = np.abs(differences[differences != 0])
    if not len(differing) or (len(weights) < items and 2 * len(differing) >= len(weights)):
        return None
    return Signs(
        len(weights), len(differing) / len(weights), float(differing.mean() / weights.sum())
    )


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
    of_items = float(_linearized(differences.mean(axis=0), weights)) ** 2
    residuals = differences - differences.mean(axis=0) - np.outer(by_seed - by_seed.mean(), weights)
    of_both = (
        float((residuals**2).sum())
        * count
        / (count - 1)
        / (seeds * (seeds - 1))
        / float(total) ** 2
    )
    error = math.sqrt(max(of_seeds + of_items - of_both, of_seeds, of_items))
    return float(_without_rounding(error, differences.mean(axis=0), weights))


def jackknife(differences: Floats, weights: Floats) -> Student:
    """Return the error of sum / sum by leaving out each cluster, and the degrees of freedom.

    Clusters of unequal weight are worth (sum of weights)² / (sum of their squares) equal ones (Kish
    1965).
    """
    count = len(weights)
    without = (differences.sum() - differences) / (weights.sum() - weights)
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    effective = float(weights.sum()) ** 2 / float((weights**2).sum())
    return Student(float(_without_rounding(error, differences, weights)), max(effective - 1, 1.0))


def _two_way(paired: Paired, crossed: Ints) -> Student:
    """Return the error over two crossed ways to cluster the items, and the lesser's degrees of freedom.

    The variance is that by either way less that by both at once, which the two have in common
    (Cameron, Gelbach and Miller 2011).
    """
    rows = (paired.second - paired.first).mean(axis=0, keepdims=True)
    _, both = np.unique(np.stack([paired.clusters, crossed]), axis=1, return_inverse=True)
    ways = []
    for clusters in (paired.clusters, crossed, both):
        [sums], weights = _summed(rows, paired.weights, clusters)
        if len(weights) > 1:
            ways.append(jackknife(sums, weights))
    if len(ways) < 3:  # all items are of one cluster in the second way
        return ways[0]
    first, second, of_both = ways
    variances = first.error**2, second.error**2
    error = math.sqrt(max(sum(variances) - of_both.error**2, *variances))
    return Student(error, min(first.freedom, second.freedom))


def _linearized(differences: Floats, weights: Floats) -> Floats:
    """Return the standard error of sum / sum over the last axis, of clusters, linearized as survey statistics has it."""
    count = weights.shape[-1]
    totals = weights.sum(axis=-1)
    estimates = differences.sum(axis=-1) / totals
    residuals = differences - np.expand_dims(estimates, -1) * weights
    errors = np.sqrt((residuals**2).sum(axis=-1) * count / (count - 1)) / totals
    return _without_rounding(errors, differences, weights)


def _without_rounding(errors: Floats | float, differences: Floats, weights: Floats) -> Floats:
    """Return `errors` with 0 for those that are rounding: all clusters (last axis) differ alike."""
    mean_absolute = np.abs(differences).sum(axis=-1) / weights.sum(axis=-1)
    return np.where(errors <= _ROUNDING * mean_absolute, 0.0, errors)
