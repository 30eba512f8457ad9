"""Compare two conditions on the same items: difference, interval, p, detectable difference.

A comparison is made of differences by item, second condition minus first, summed over clusters
(items that share a source are not independent) and divided by weights: 1 for an answer, bytes for
bits per byte. Several tests use them, each for a case in which the others are too confident: p is
the largest of their p, the interval the widest of theirs. model/statistics/over_seeds.py adds what
several seeds say.
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

from model.statistics.over_seeds import POWER, SIGNIFICANT, OverSeeds, Student, over_seeds

RESAMPLES = 4999
# With fewer, resamples repeat each other: Student's t is used alone, and a note warns.
FEW_CLUSTERS = 8
_AT_ONCE = 500  # resamples; a thousand clusters of them are a few megabytes
# An error below this part of the mean absolute difference is rounding, and counts as zero.
_ROUNDING = 1e-9

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


ARMS = ("first", "second")


class Paired(NamedTuple):
    """Values of both conditions by seed and item, and each item's weight and cluster.

    Values are float64, weights and clusters (items,). A condition's figure for a seed is the sum of
    its values over the sum of the weights.
    """

    first: Floats  # (seeds, items)
    second: Floats  # (seeds, items)
    weights: Floats  # (items,)
    clusters: Ints  # (items,)


class Signs(NamedTuple):
    """The test of signs: the number of clusters, the share that `differ`, and their mean effect.

    `step` is how much one differing cluster changes the figure, on average.
    """

    clusters: int
    differ: float
    step: float

    def detectable(self, level: float) -> float | None:
        """Return the true difference that the test of signs finds with a probability of `POWER`.

        Return None if no difference is found so often. A difference of d means that d / `step` more
        clusters differ in its direction than in the other.
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


class Term(NamedTuple):
    """One part of a figure that is a sum: `scale` times the figure of `paired`, plus `offset`.

    `crossed`, (items,), is a second way to cluster the items, such as the form of a question where
    `paired.clusters` has its fact. Terms of one sum have no item in common.
    """

    paired: Paired
    crossed: Ints | None = None
    scale: float = 1.0
    offset: float = 0.0


class Comparison(NamedTuple):
    """One figure of two conditions; `difference` is the second's minus the first's, over all seeds.

    `items_interval_95` and `items_p` are about these networks on other items. `seeds_interval_95`
    and `seeds_p` are about other networks of the same conditions too; they are None with one seed.
    `mcnemar_p` is McNemar's p of the answers of one seed, as if no two items shared a source.
    `effective_clusters` is the number of clusters of equal weight that carry as much information;
    with two ways to cluster, the smaller of the two. `crossed` is the number of clusters in the
    second way. `spread` has the standard deviation over seeds of both conditions' figures, None
    with one seed. `student` has the error over items that `detectable` uses; `signs` is None unless
    few clusters differ; `over_seeds` is None with one seed.
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
    spread: tuple[float, float] | None
    is_answers: bool
    student: Student
    signs: Signs | None
    over_seeds: OverSeeds | None

    @property
    def p(self) -> float:
        """Return p over seeds if there are several, else over items."""
        return self.items_p if self.seeds_p is None else self.seeds_p

    @property
    def detectable(self) -> float | None:
        """Return what this comparison would detect if it were the only one."""
        return self.detectable_among(1)

    def detectable_among(self, comparisons: int) -> float | None:
        """Return the true difference found with a probability of `POWER` among `comparisons`.

        Holm's correction finds it if its p is below 0.05 / `comparisons`, Holm's first step. Return
        None where nothing varied, where even a difference of all answers would not suffice, or
        where the bootstrap cannot resolve so small a p.
        """
        level = SIGNIFICANT / comparisons
        if level <= 2 / (RESAMPLES + 1):
            return None
        if self.over_seeds is not None:
            found = self.over_seeds.detectable(level)
        elif self.student.error == 0:
            return None
        else:
            found = self.student.detectable(level)
        if self.signs is not None:
            by_signs = self.signs.detectable(level)
            if by_signs is None or found is None:
                return None
            found = max(found, by_signs)
        return None if found is None or (self.is_answers and found > 1) else found


class _Part(NamedTuple):
    """What one term of a figure says, times its scale.

    `widths` are how far the interval over items reaches below and above, (2,). `shared` is the part
    of the items' variance that the networks bring in: it is in the spread over seeds too.
    """

    first: Floats  # (seeds,)
    second: Floats  # (seeds,)
    widths: Floats
    items_p: float
    student: Student
    signs: Signs | None
    shared: float
    effective: float
    clusters: int


def compare(
    paired: Paired, is_answers: bool, seed: int = 0, crossed: Ints | None = None
) -> Comparison:
    """Compare two conditions; `seed` seeds the resampling.

    `crossed`, (items,), is a second way to cluster the items. Raises ValueError if there are fewer
    than two clusters, since clusters are what is resampled.
    """
    return compare_sum([Term(paired, crossed)], is_answers, seed)


def compare_sum(terms: Sequence[Term], is_answers: bool, seed: int = 0) -> Comparison:
    """Compare two conditions by a figure that is the sum of `terms`, of disjoint sets of items.

    The terms are fixed: the interval is about other items of the same tasks, not other tasks. The
    variances of the terms add up, and so do the squares of their widths. What a network gives to
    all terms alike is in the spread of the sums over seeds.
    """
    parts = [_part(term, is_answers, seed) for term in terms]
    first, second = (np.sum([getattr(part, side) for part in parts], axis=0) for side in ARMS)
    difference = float((second - first).mean())
    widths = np.sqrt(np.sum([part.widths**2 for part in parts], axis=0))
    student = _added([part.student for part in parts])
    one = parts[0] if len(parts) == 1 else None
    items_p = one.items_p if one else _items_p(difference, widths, student)
    is_bounded = is_answers and one is not None
    items_interval = _interval(difference, widths, items_p, is_bounded)
    seeds_p = seeds_interval = spread = found = None
    if len(first) > 1:
        own = math.fsum(part.shared for part in parts) / student.error**2 if student.error else 1.0
        sides = [
            over_seeds(first, second, student.of_half(float(width)), own, is_paired=not is_answers)
            for width in widths
        ]
        # Below the difference lies 0 if it is positive, above it if it is negative.
        found = sides[0] if difference >= 0 else sides[1]
        seeds_p = max(found.p(difference), items_p)
        halves = [side.half(SIGNIFICANT) for side in sides]
        seeds_interval = _interval(difference, halves, seeds_p, is_bounded)
        spread = float(first.std(ddof=1)), float(second.std(ddof=1))
    return Comparison(
        first=float(first.mean()),
        second=float(second.mean()),
        difference=difference,
        items=sum(len(term.paired.weights) for term in terms),
        seeds=len(first),
        clusters=sum(part.clusters for part in parts),
        crossed=_crossed(terms),
        effective_clusters=math.fsum(part.effective for part in parts),
        items_interval_95=items_interval,
        items_p=items_p,
        mcnemar_p=mcnemar_p(terms[0].paired.first[0], terms[0].paired.second[0])
        if is_bounded and len(first) == 1 and _are_whole(terms[0].paired)
        else None,
        seeds_interval_95=seeds_interval,
        seeds_p=seeds_p,
        spread=spread,
        is_answers=is_answers,
        student=student,
        signs=one.signs if one and len(first) == 1 else None,
        over_seeds=found,
    )


def _part(term: Term, is_answers: bool, seed: int) -> _Part:
    paired, crossed, scale, offset = term
    items, weight = len(paired.weights), float(paired.weights.sum())
    differences, weights = by_cluster(paired)  # (seeds, clusters), (clusters,)
    if not items or len(weights) < 2:
        raise ValueError(
            f"{items} items in {len(weights)} clusters; a comparison needs two clusters"
        )
    of_items = differences.mean(axis=0)  # (clusters,)
    difference = float(of_items.sum() / weight)
    student = jackknife(of_items, weights) if crossed is None else _two_way(paired, crossed)
    effective = student.freedom + 1
    # Sums over several seeds are whole numbers too, and the test of signs is free of scale.
    is_counted = is_answers and _are_whole(paired)
    signs = _signs(differences.sum(axis=0), weights, items) if is_counted else None
    widths, items_p = _bootstrap(of_items, weights, seed)
    if signs is not None:
        # Add one more differing cluster: a few that happen to agree have almost no error.
        student = student._replace(error=math.hypot(student.error, signs.step / len(differences)))
        items_p = max(items_p, sign_flip_p(differences.sum(axis=0)))
    items_p = max(items_p, student.p(difference))
    return _Part(
        first=scale * paired.first.sum(axis=1) / weight + offset,
        second=scale * paired.second.sum(axis=1) / weight + offset,
        widths=abs(scale) * np.maximum(widths, student.half()),
        items_p=items_p,
        student=student._replace(error=abs(scale) * student.error),
        signs=signs,
        shared=scale**2 * math.fsum(_shared(each, weights) for each in _units(paired, is_answers)),
        effective=effective,
        clusters=len(weights),
    )


def _are_whole(paired: Paired) -> bool:
    """Return whether all values are 0 or 1, not means over several checkpoints."""
    return all(bool(np.all((arm == 0) | (arm == 1))) for arm in (paired.first, paired.second))


def _added(students: list[Student]) -> Student:
    """Return the error of a sum, with Satterthwaite's (1946) degrees of freedom."""
    variances = np.array([student.error**2 for student in students])
    if len(students) == 1 or not variances.any():
        return students[0]
    freedom = variances.sum() ** 2 / (variances**2 / [each.freedom for each in students]).sum()
    return Student(math.sqrt(variances.sum()), float(freedom))


def _items_p(difference: float, widths: Floats, student: Student) -> float:
    """Return p of a sum over items: Student's, with the error that the width to 0 implies."""
    width = float(widths[0] if difference >= 0 else widths[1])
    p = student.of_half(width).p(difference) if width else student.p(difference)
    return max(p, 1 / (RESAMPLES + 1))


def _crossed(terms: Sequence[Term]) -> int | None:
    crossed = terms[0].crossed if len(terms) == 1 else None
    return None if crossed is None else len(np.unique(crossed))


def by_cluster(paired: Paired) -> tuple[Floats, Floats]:
    """Return sums of differences, (seeds, clusters), and of weights, (clusters,)."""
    return _summed(paired.second - paired.first, paired.weights, paired.clusters)


def _summed(rows: Floats, weights: Floats, clusters: Ints) -> tuple[Floats, Floats]:
    _, members = np.unique(clusters, return_inverse=True)
    count = int(members.max(initial=-1)) + 1
    sums = [np.bincount(members, weights=row, minlength=count) for row in rows]
    total = np.bincount(members, weights=weights, minlength=count)
    return np.array(sums), total.astype(np.float64, copy=False)


def bootstrap(differences: Floats, weights: Floats, seed: int) -> tuple[tuple[float, float], float]:
    """Return the 95 % interval of a ratio of sums over clusters, and p for a true ratio of 0.

    The interval excludes 0 where p < 0.05. Both are the more cautious of two methods:

    - The studentized bootstrap (Efron and Tibshirani 1993, chapters 12 and 16): how far a resample
      is from the estimate, in its own standard errors. If k of B resamples are as far to one side
      as the estimate is from 0, p = 2 (k + 1) / (B + 1). Unused with fewer than `FEW_CLUSTERS`.
    - Student's t with the jackknife's error. Its degrees of freedom are those of clusters of equal
      weight: a few large clusters among many small ones have fewer than their number.
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
        # The kth of n values is the quantile k / (n + 1), as in p.
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
    """Return the interval around `estimate`: with 0 unless p < 0.05, for answers within ±1."""
    low, high = float(estimate - widths[0]), float(estimate + widths[1])
    if p >= SIGNIFICANT:
        low, high = min(low, 0.0), max(high, 0.0)
    return (max(low, -1.0), min(high, 1.0)) if is_answers else (low, high)


def _deviations(
    differences: Floats, weights: Floats, estimate: float, generator: np.random.Generator
) -> Floats:
    """Return each resample's distance from `estimate`, (resamples,), in its own standard errors.

    A resample whose clusters all agree has no error of its own and is left out.
    """
    parts = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        drawn = generator.integers(
            len(weights), size=(min(_AT_ONCE, RESAMPLES - start), len(weights))
        )
        sums, totals = differences[drawn], weights[drawn]  # (resamples, clusters)
        errors = _linearized(sums, totals)
        off = sums.sum(axis=1) / totals.sum(axis=1) - estimate
        parts.append(off[errors > 0] / errors[errors > 0])
    return np.concatenate(parts)


def mcnemar_p(first: Floats, second: Floats) -> float:
    """Return McNemar's exact p (1947) that each condition alone is right on as many items."""
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

    Without a true difference each cluster's difference is as likely to have the other sign. p is
    the share of all combinations of signs whose sum is as far from 0 as the actual one. For 1 and
    -1 it is McNemar's.
    """
    sizes = np.abs(differences[differences != 0]).round().astype(int)
    total = int(sizes.sum())
    # Probabilities of the sums -n, 2 - n, 4 - n, …, n, where n is the sum of the sizes so far.
    # Example: sizes 1 and 2 give n = 3 and the sums -3, -1, 1, 3 with probability 1/4 each.
    chances = np.ones(1)
    for size in sizes:
        longer = np.zeros(len(chances) + size)
        longer[:-size] += chances / 2
        longer[size:] += chances / 2
        chances = longer
    as_far = np.abs(2 * np.arange(total + 1) - total) >= abs(round(float(differences.sum())))
    return min(1.0, float(chances[as_far].sum()))


def _signs(differences: Floats, weights: Floats, items: int) -> Signs | None:
    """Return the input of the test of signs, or None unless few clusters differ.

    "Few" means fewer than half of them, or any number if each cluster is a single item. With few,
    Student's t and the bootstrap find too much: for 5 items to 0 their p is 0.025, McNemar's is
    0.0625. Where most clusters differ the two are right, and the test of signs has too little
    power.
    """
    differing = np.abs(differences[differences != 0])
    if not len(differing) or (len(weights) < items and 2 * len(differing) >= len(weights)):
        return None
    return Signs(
        len(weights), len(differing) / len(weights), float(differing.mean() / weights.sum())
    )


def holm(p_values: list[float]) -> list[float]:
    """Return p values adjusted for their number (Holm 1979).

    If nothing differs, the chance that any adjusted p is below 5 % is at most 5 %.
    """
    return multipletests(p_values, method="holm")[1].tolist() if p_values else []


def _units(paired: Paired, is_answers: bool) -> list[Floats]:
    """Return what is compared over seeds, sums of (seeds, clusters): both arms, or differences.

    Accuracies are compared unpaired, losses seed by seed (model/statistics/over_seeds.py).
    """
    if len(paired.first) == 1:
        return []
    rows = [paired.first, paired.second] if is_answers else [paired.second - paired.first]
    return [_summed(each, paired.weights, paired.clusters)[0] for each in rows]


def _shared(sums: Floats, weights: Floats) -> float:
    """Return the variance of the mean of `sums`, (seeds, clusters), by seed and cluster.

    It is what single networks answer by chance, and part of the variance by seeds and of the one by
    clusters (Cameron, Gelbach and Miller 2011).
    """
    seeds, count = sums.shape
    total = weights.sum()
    by_seed = sums.sum(axis=1) / total  # (seeds,)
    residuals = sums - sums.mean(axis=0) - np.outer(by_seed - by_seed.mean(), weights)
    freedom = (count - 1) / count * (seeds - 1)
    return float((residuals**2).sum() / freedom / seeds / total**2)


def jackknife(differences: Floats, weights: Floats) -> Student:
    """Return the jackknife's error of sum / sum over clusters, and its degrees of freedom.

    Clusters of unequal weight count as (sum of weights)² / (sum of their squares) equal ones (Kish
    1965).
    """
    count = len(weights)
    without = (differences.sum() - differences) / (weights.sum() - weights)
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    effective = float(weights.sum()) ** 2 / float((weights**2).sum())
    return Student(float(_without_rounding(error, differences, weights)), max(effective - 1, 1.0))


def _two_way(paired: Paired, crossed: Ints) -> Student:
    """Return the error over two crossed ways to cluster the items, and the smaller freedom.

    The variance is the sum of the two ways' minus that by both at once, which they share (Cameron,
    Gelbach and Miller 2011).
    """
    rows = (paired.second - paired.first).mean(axis=0, keepdims=True)
    _, both = np.unique(np.stack([paired.clusters, crossed]), axis=1, return_inverse=True)
    ways = []
    for clusters in (paired.clusters, crossed, both):
        [sums], weights = _summed(rows, paired.weights, clusters)
        if len(weights) > 1:
            ways.append(jackknife(sums, weights))
    if len(ways) < 3:  # all items are in one cluster of the second way
        return ways[0]
    first, second, of_both = ways
    variance, other = first.error**2, second.error**2
    error = math.sqrt(max(variance + other - of_both.error**2, variance, other))
    return Student(error, min(first.freedom, second.freedom))


def _linearized(differences: Floats, weights: Floats) -> Floats:
    """Return the standard error of sum / sum over the last axis, the clusters.

    It is the linearization (delta method) of survey statistics.
    """
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
