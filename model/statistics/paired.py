"""Compare two conditions on the same items: difference, interval, p, detectable difference.

The unit of a comparison is the cluster: items that share a source are not independent. A figure is
a ratio of sums. Items weigh 1 for answers, and their bytes for bits per byte:

    item                 0    1    2    3    4
    cluster              a    a    b    b    c
    first condition      1    0    1    0    0     figure 2/5
    second condition     1    1    1    1    0     figure 4/5
    second - first       0    1    0    1    0     difference 2/5
    sums by cluster        a: 1     b: 1   c: 0    weights 2, 2, 1

Several tests use these sums, each for a case in which the others are too confident:

- The studentized bootstrap resamples clusters; it needs at least FEW_CLUSTERS of them.
- Student's t with the jackknife's error holds for few clusters and for unequal ones.
- The sign-flip test is exact where few clusters differ.

p is the largest p of the tests that apply, and the interval the widest of theirs.
model/statistics/over_seeds.py adds the variance between seeds.
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

# The smallest p that the bootstrap can give is 2 / (4999 + 1) = 0.0004.
RESAMPLES = 4999
# With fewer clusters, resamples repeat each other: only Student's t is used, and a note warns.
FEW_CLUSTERS = 8
# Resamples computed at once: 500 × 1000 clusters × 8 bytes = 4 MB for each array.
_AT_ONCE = 500
# An error below this part of the mean absolute difference is rounding and counts as zero.
_ROUNDING = 1e-9

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


# The names of the fields of Paired and _Part that hold the two conditions.
ARMS = ("first", "second")


class Paired(NamedTuple):
    """Values of both conditions by seed and item, and each item's weight and cluster.

    A condition's figure for a seed is the sum of its values over the sum of the weights. For an
    accuracy values are 0 or 1 and weights 1; for bits per byte they are bits and bytes.
    """

    first: Floats  # (seeds, items)
    second: Floats  # (seeds, items)
    weights: Floats  # (items,)
    clusters: Ints  # (items,)


class Signs(NamedTuple):
    """What the power of the sign-flip test depends on."""

    clusters: int
    # The share of clusters whose sum of differences is not 0.
    differ: float
    # How much one differing cluster changes the figure, on average.
    step: float

    def detectable(self, level: float) -> float | None:
        """Return the true difference that the sign test finds with a probability of `POWER`.

        Return None if no difference is found so often. A difference of d means that d / `step` more
        clusters differ in its direction than in the other. Example: of 100 clusters 20 differ. A
        surplus of 10 means that 15 differ in one direction and 5 in the other, so each differing
        cluster has that direction with probability (1 + 10 / 20) / 2 = 0.75.
        """
        # (clusters + 1,): every number of differing clusters
        differing = np.arange(self.clusters + 1)
        # (clusters + 1,): of n that differ, more than this in one direction are significant. At a
        # level of 0.05, 6 of 6 and 8 of 8 are, 5 of 5 and 7 of 8 are not.
        critical = stats.binom.isf(level / 2, differing, 0.5)

        def lacking(surplus: float) -> float:
            # A surplus larger than the observed share needs as many differing clusters.
            share = max(self.differ, surplus)
            # (clusters + 1,): the probability of significance given each number that differs,
            # averaged below over the binomial probability of that number
            found = stats.binom.sf(critical, differing, (1 + surplus / share) / 2)
            return float(stats.binom.pmf(differing, self.clusters, share) @ found) - POWER

        if lacking(1.0) < 0:
            return None
        # The root is a share of all clusters.
        return brentq(lacking, 1e-9, 1.0) * self.clusters * self.step


class Term(NamedTuple):
    """One part of a figure that is a sum: `scale` times the figure of `paired`, plus `offset`.

    Terms of one sum have no item in common.
    """

    paired: Paired
    # (items,): a second way to cluster the items. A question about 6 × 7 shares its fact with some
    # questions (`paired.clusters`) and its form with others (`crossed`).
    crossed: Ints | None = None
    scale: float = 1.0
    offset: float = 0.0


class Comparison(NamedTuple):
    """One figure of two conditions, compared."""

    # Means over all seeds; `difference` is second - first.
    first: float
    second: float
    difference: float
    items: int
    seeds: int
    clusters: int
    # The number of clusters in the second way to cluster, if there is one.
    crossed: int | None
    # The number of clusters of equal weight that carry as much information; with two ways to
    # cluster, the smaller one.
    effective_clusters: float
    # About these networks on other items.
    items_interval_95: tuple[float, float]
    items_p: float
    # McNemar's p of one seed's answers, as if no two items shared a source.
    mcnemar_p: float | None
    # About other networks of the same conditions too. None with one seed.
    seeds_interval_95: tuple[float, float] | None
    seeds_p: float | None
    # Standard deviations over seeds of both conditions' figures. None with one seed.
    spread: tuple[float, float] | None
    is_answers: bool
    # The error over items, for `detectable`.
    student: Student
    # None unless few clusters differ (`_signs`).
    signs: Signs | None
    # None with one seed.
    over_seeds: OverSeeds | None

    @property
    def p(self) -> float:
        """Return p over seeds if there are several, else over items."""
        return self.items_p if self.seeds_p is None else self.seeds_p

    @property
    def detectable(self) -> float | None:
        """Return the detectable difference if this were the only comparison."""
        return self.detectable_among(1)

    def detectable_among(self, comparisons: int) -> float | None:
        """Return the true difference found with a probability of `POWER` among `comparisons`.

        Under Holm's correction the difference is found if its p is below 0.05 / `comparisons`,
        Holm's first step. Return None if nothing varied, if even a difference of all answers would
        not suffice, or if the bootstrap cannot resolve so small a p (from 125 comparisons on).
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
    """The statistics of one term of a figure, multiplied by its scale."""

    first: Floats  # (seeds,)
    second: Floats  # (seeds,)
    # (2,): how far the interval over items reaches below and above the difference
    widths: Floats
    items_p: float
    student: Student
    signs: Signs | None
    # Vb: the part of the items' variance that comes from single networks. The spread over seeds
    # contains it too.
    shared: float
    effective: float
    clusters: int


def compare(
    paired: Paired, is_answers: bool, seed: int = 0, crossed: Ints | None = None
) -> Comparison:
    """Compare two conditions on the items of `paired`.

    `is_answers`: values are right or wrong answers, not losses. `seed` seeds the resampling.
    `crossed` (items,) is a second way to cluster the items. Raises ValueError if there are fewer
    than two clusters, since the tests resample clusters.
    """
    return compare_sum([Term(paired, crossed)], is_answers, seed)


def compare_sum(terms: Sequence[Term], is_answers: bool, seed: int = 0) -> Comparison:
    """Compare two conditions by a figure that is the sum of `terms`, of disjoint sets of items.

    The terms are fixed: the interval is about other items of the same tasks, not about other tasks.
    The terms' items are independent, so their variances add, and so do the squares of their widths.
    A network that is better at all terms shows in the spread of the sums over seeds. Raises
    ValueError if a term has fewer than two clusters.
    """
    parts = [_part(term, is_answers, seed) for term in terms]
    # (seeds,) each
    first, second = (np.sum([getattr(part, side) for part in parts], axis=0) for side in ARMS)
    difference = float((second - first).mean())
    # (2,): below, above
    widths = np.sqrt(np.sum([part.widths**2 for part in parts], axis=0))
    student = _added([part.student for part in parts])
    one = parts[0] if len(parts) == 1 else None
    items_p = one.items_p if one else _items_p(difference, widths, student)
    # A difference of two accuracies lies within ±1; a sum of scaled terms need not.
    is_bounded = is_answers and one is not None
    items_interval = _interval(difference, widths, items_p, is_bounded)
    seeds_p = seeds_interval = spread = found = None
    if len(first) > 1:
        # Vb / Vi
        own = math.fsum(part.shared for part in parts) / student.error**2 if student.error else 1.0
        # The bootstrap's interval is not symmetric: each side has its own error over items.
        sides = [
            over_seeds(first, second, student.of_half(float(width)), own, is_paired=not is_answers)
            for width in widths
        ]
        # 0 lies below a positive difference and above a negative one; p concerns that side.
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
    """Run every test over items on one term. Raises ValueError with fewer than two clusters."""
    paired, crossed, scale, offset = term
    items, weight = len(paired.weights), float(paired.weights.sum())
    differences, weights = by_cluster(paired)  # (seeds, clusters), (clusters,)
    if not items or len(weights) < 2:
        raise ValueError(
            f"{items} items in {len(weights)} clusters; a comparison needs two clusters"
        )
    of_items = differences.mean(axis=0)  # (clusters,), mean over seeds
    difference = float(of_items.sum() / weight)
    student = jackknife(of_items, weights) if crossed is None else _two_way(paired, crossed)
    effective = student.freedom + 1
    # The sign test takes sums over seeds, not means: they are whole numbers, and only signs and
    # ratios of sizes matter to it.
    is_counted = is_answers and _are_whole(paired)
    signs = _signs(differences.sum(axis=0), weights, items) if is_counted else None
    widths, items_p = _bootstrap(of_items, weights, seed)
    if signs is not None:
        # The error of one more differing cluster is added: a few that happen to agree have almost
        # no error of their own.
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
    """Return True if all values are 0 or 1, and not means over several checkpoints."""
    return all(bool(np.all((arm == 0) | (arm == 1))) for arm in (paired.first, paired.second))


def _added(students: list[Student]) -> Student:
    """Return the error of a sum of independent terms, with Satterthwaite's (1946) freedom.

    freedom = (Σ variance)² / Σ (variance² / freedom of the term).
    """
    variances = np.array([student.error**2 for student in students])
    if len(students) == 1 or not variances.any():
        return students[0]
    freedom = variances.sum() ** 2 / (variances**2 / [each.freedom for each in students]).sum()
    return Student(math.sqrt(variances.sum()), float(freedom))


def _items_p(difference: float, widths: Floats, student: Student) -> float:
    """Return p of a sum of terms over items.

    It is Student's, with the error whose 95 % interval has the width on the side of 0.
    """
    width = float(widths[0] if difference >= 0 else widths[1])
    p = student.of_half(width).p(difference) if width else student.p(difference)
    return max(p, 1 / (RESAMPLES + 1))


def _crossed(terms: Sequence[Term]) -> int | None:
    """Return the number of clusters in the second way, if a single term has one."""
    crossed = terms[0].crossed if len(terms) == 1 else None
    return None if crossed is None else len(np.unique(crossed))


def by_cluster(paired: Paired) -> tuple[Floats, Floats]:
    """Return sums of differences, (seeds, clusters), and of weights, (clusters,)."""
    return _summed(paired.second - paired.first, paired.weights, paired.clusters)


def _summed(rows: Floats, weights: Floats, clusters: Ints) -> tuple[Floats, Floats]:
    """Return sums over clusters of `rows` (rows, items) and of `weights` (items,)."""
    # (items,): each item's cluster as a number from 0
    _, members = np.unique(clusters, return_inverse=True)
    count = int(members.max(initial=-1)) + 1
    sums = [np.bincount(members, weights=row, minlength=count) for row in rows]
    total = np.bincount(members, weights=weights, minlength=count)
    return np.array(sums), total.astype(np.float64, copy=False)


def bootstrap(differences: Floats, weights: Floats, seed: int) -> tuple[tuple[float, float], float]:
    """Return the 95 % interval of a ratio of sums over clusters, and p for a true ratio of 0.

    `differences` and `weights` are (clusters,). The interval excludes 0 where p < 0.05. Both are
    the more cautious result of two methods:

    - The studentized bootstrap (Efron and Tibshirani 1993, chapters 12 and 16) draws as many
      clusters with replacement and divides each resample's distance from the estimate by its own
      standard error. If k of B resamples are as far to one side as the estimate is from 0,
      p = 2 (k + 1) / (B + 1). With fewer than `FEW_CLUSTERS` it is not used.
    - Student's t with the jackknife's error. Its degrees of freedom are those of clusters of equal
      weight: a few large clusters among many small ones count as fewer.
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
        # "weibull": the kth of n values is the quantile k / (n + 1), the same convention as in p.
        low, high = np.quantile(
            deviations, [SIGNIFICANT / 2, 1 - SIGNIFICANT / 2], method="weibull"
        )
        # Mirrored: resamples far above the estimate mean that the truth may lie far below it.
        widths = np.maximum(widths, np.array([high, -low]) * error)
        as_far = min(
            int((deviations >= estimate / error).sum()), int((deviations <= estimate / error).sum())
        )
        p = max(p, min(1.0, 2 * (as_far + 1) / (len(deviations) + 1)))
    return widths, p


def _interval(
    estimate: float, widths: Sequence[float] | Floats, p: float, is_answers: bool
) -> tuple[float, float]:
    """Return the interval around `estimate`, widened to contain 0 if p ≥ 0.05.

    An interval of answers is cut at ±1.
    """
    low, high = float(estimate - widths[0]), float(estimate + widths[1])
    if p >= SIGNIFICANT:
        low, high = min(low, 0.0), max(high, 0.0)
    return (max(low, -1.0), min(high, 1.0)) if is_answers else (low, high)


def _deviations(
    differences: Floats, weights: Floats, estimate: float, generator: np.random.Generator
) -> Floats:
    """Return each resample's distance from `estimate` in its own standard errors: (resamples,).

    A resample whose clusters all agree has an error of 0 and is left out.
    """
    parts = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        # (resamples, clusters): numbers of the clusters drawn
        drawn = generator.integers(
            len(weights), size=(min(_AT_ONCE, RESAMPLES - start), len(weights))
        )
        sums, totals = differences[drawn], weights[drawn]  # (resamples, clusters)
        # (resamples,) both
        errors = _linearized(sums, totals)
        off = sums.sum(axis=1) / totals.sum(axis=1) - estimate
        parts.append(off[errors > 0] / errors[errors > 0])
    return np.concatenate(parts)


def mcnemar_p(first: Floats, second: Floats) -> float:
    """Return McNemar's exact p (1947) for answers of 0 or 1, (items,) of each condition.

    The hypothesis is that each condition alone is right on equally many items. With 5 items that
    only the second answers and none that only the first does, p is 2 / 2⁵ = 0.0625.
    """
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
    """Return the exact p of whole numbers (clusters,) by the test that flips their signs.

    Without a true difference, each cluster's sum of differences is equally likely to have the other
    sign. p is the share of all combinations of signs whose total is at least as far from 0 as the
    actual one. For sums of 1 and -1 it is McNemar's p.
    """
    sizes = np.abs(differences[differences != 0]).round().astype(int)
    total = int(sizes.sum())
    # Probabilities of the sums -n, 2 - n, 4 - n, …, n, where n is the sum of the sizes so far.
    # Example: sizes 1 and 2 give n = 3 and the sums -3, -1, 1, 3 with probability 1/4 each.
    chances = np.ones(1)
    for size in sizes:
        # Place k is the sum 2 k - n. A minus keeps the place while n grows by `size`; a plus moves
        # the sum by `size` places.
        longer = np.zeros(len(chances) + size)
        longer[:-size] += chances / 2
        longer[size:] += chances / 2
        chances = longer
    # (n + 1,) bool
    as_far = np.abs(2 * np.arange(total + 1) - total) >= abs(round(float(differences.sum())))
    return min(1.0, float(chances[as_far].sum()))


def _signs(differences: Floats, weights: Floats, items: int) -> Signs | None:
    """Return the input of the sign test, or None unless few clusters differ.

    `differences` and `weights` are (clusters,). "Few" means fewer than half of the clusters, or any
    number if each cluster is a single item. Student's t and the bootstrap then find too much: for 5
    items to 0 their p is 0.025, McNemar's is 0.0625. Where most clusters differ, those two are
    right, and the sign test has too little power.
    """
    differing = np.abs(differences[differences != 0])
    if not len(differing) or (len(weights) < items and 2 * len(differing) >= len(weights)):
        return None
    return Signs(
        len(weights), len(differing) / len(weights), float(differing.mean() / weights.sum())
    )


def holm(p_values: list[float]) -> list[float]:
    """Return p values adjusted for their number (Holm 1979), in the order given.

    If nothing differs, the chance that any adjusted p is below 5 % is at most 5 %. The smallest of
    n values is multiplied by n, the next by n - 1, and none may be below the one before:
    [0.01, 0.04, 0.03] becomes [0.03, 0.06, 0.06].
    """
    return multipletests(p_values, method="holm")[1].tolist() if p_values else []


def _units(paired: Paired, is_answers: bool) -> list[Floats]:
    """Return the sums (seeds, clusters) whose spread over seeds counts.

    They are those of both conditions for accuracies, which are compared unpaired, and those of the
    differences for losses, which are compared seed by seed (model/statistics/over_seeds.py).
    """
    if len(paired.first) == 1:
        return []
    rows = [paired.first, paired.second] if is_answers else [paired.second - paired.first]
    return [_summed(each, paired.weights, paired.clusters)[0] for each in rows]


def _shared(sums: Floats, weights: Floats) -> float:
    """Return Vb, the variance of the mean of `sums` (seeds, clusters) by single networks.

    It is the variance of what each network answers by chance on each cluster. The variance over
    seeds and the variance over clusters both contain it (Cameron, Gelbach and Miller 2011).
    """
    seeds, count = sums.shape
    total = weights.sum()
    by_seed = sums.sum(axis=1) / total  # (seeds,)
    # (seeds, clusters): what neither the cluster's mean nor the seed's level explains
    residuals = sums - sums.mean(axis=0) - np.outer(by_seed - by_seed.mean(), weights)
    freedom = (count - 1) / count * (seeds - 1)
    return float((residuals**2).sum() / freedom / seeds / total**2)


def jackknife(differences: Floats, weights: Floats) -> Student:
    """Return the jackknife's error of Σ differences / Σ weights, both (clusters,), and its freedom.

    The jackknife computes the ratio without each cluster in turn. Clusters of unequal weight count
    as (Σ weights)² / Σ weights² equal ones (Kish 1965). Example: weights 7, 1, 1, 1 count as
    100 / 52 = 1.9 clusters. The freedom is one less, and at least 1.
    """
    count = len(weights)
    # (clusters,): the ratio without each cluster
    without = (differences.sum() - differences) / (weights.sum() - weights)
    error = math.sqrt((count - 1) / count * float(((without - without.mean()) ** 2).sum()))
    effective = float(weights.sum()) ** 2 / float((weights**2).sum())
    return Student(float(_without_rounding(error, differences, weights)), max(effective - 1, 1.0))


def _two_way(paired: Paired, crossed: Ints) -> Student:
    """Return the error over two crossed ways to cluster the items, and the smaller freedom.

    Questions about products share a fact along a row and a form along a column:

                 a × b =    a*b=    a · b =
        6, 7        •         •         •
        8, 9        •         •         •

    The variance is that by rows plus that by columns, minus that by cells, which both contain
    (Cameron, Gelbach and Miller 2011). It is at least the larger of the two.
    """
    # (1, items)
    rows = (paired.second - paired.first).mean(axis=0, keepdims=True)
    # (items,): the number of each item's cell
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
    """Return the standard error of Σ differences / Σ weights over the last axis, the clusters.

    It is the linearization (delta method) of survey statistics: the residual of a cluster is its
    sum of differences beyond estimate × weight. Shapes are (clusters,), or (resamples, clusters).
    """
    count = weights.shape[-1]
    totals = weights.sum(axis=-1)
    estimates = differences.sum(axis=-1) / totals
    residuals = differences - np.expand_dims(estimates, -1) * weights
    errors = np.sqrt((residuals**2).sum(axis=-1) * count / (count - 1)) / totals
    return _without_rounding(errors, differences, weights)


def _without_rounding(errors: Floats | float, differences: Floats, weights: Floats) -> Floats:
    """Return `errors` with 0 in place of rounding, where all clusters (last axis) differ alike.

    An error is rounding if it is below 1e-9 of the mean absolute difference.
    """
    mean_absolute = np.abs(differences).sum(axis=-1) / weights.sum(axis=-1)
    return np.where(errors <= _ROUNDING * mean_absolute, 0.0, errors)
