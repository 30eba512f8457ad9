"""In simulated experiments, whose truth is known, intervals and tests err as often as they
promise.
"""

import numpy as np
import pytest
from simulated_answers import answers

from benchmarks.intervals import CASES, simulate
from model.comparison.family import Row, judge
from model.statistics import paired
from model.statistics.over_seeds import Student, over_seeds
from model.statistics.paired import (
    Paired,
    by_cluster,
    compare,
)

pytestmark = pytest.mark.slow(
    "each share of errors is that of many simulated experiments", minutes=4
)

EXPERIMENTS = 1000
# 99.6 % of binomial counts of 1,000 experiments are within, if the true rate is 95 %.
COVERED = (0.93, 0.97)


@pytest.mark.parametrize("clusters", [18, 200])
def test_the_bootstrap_interval_covers_and_the_test_errs_one_time_in_twenty(
    clusters, monkeypatch, record_property
):
    """Null experiments: over all items there could be, the two networks are alike. 18 clusters are
    the generated problems'.
    """
    monkeypatch.setattr(paired, "RESAMPLES", 599)
    found = [
        compare(answers(np.random.default_rng(n), clusters=clusters, of_items=0.35), True, n)
        for n in range(EXPERIMENTS)
    ]
    covered = np.mean(
        [low <= 0 <= high for low, high in (each.items_interval_95 for each in found)]
    )
    errs = np.mean([each.items_p < 0.05 for each in found])
    record_property("covered", float(covered))
    record_property("false positives", float(errs))
    # Most sources do not differ, and the exact test of so few signs that do is a little too
    # careful.
    assert COVERED[0] <= covered <= 0.98
    assert 0.02 <= errs <= 0.07


def unequal(generator: np.random.Generator) -> Paired:
    """One source with half of all bytes, and twenty others: no condition is better over all sources
    there could be.
    """
    weights = np.array([200.0] + [10.0] * 20)
    sums = 0.3 * weights * generator.normal(size=21) + np.sqrt(weights) * generator.normal(size=21)
    return Paired(np.zeros((1, 21)), sums[None], weights, np.arange(21))


def few_clusters(count: int):
    def experiment(generator: np.random.Generator) -> Paired:
        return Paired(
            np.zeros((1, count)),
            generator.normal(size=(1, count)),
            np.ones(count),
            np.arange(count),
        )

    return experiment


def few_that_differ(generator: np.random.Generator) -> Paired:
    """One item in a hundred is right in the one condition alone, and one in the other alone."""
    drawn = generator.random((1, 300))
    only_first, only_second = drawn < 0.01, drawn > 0.99
    return Paired(only_first.astype(float), only_second.astype(float), np.ones(300), np.arange(300))


@pytest.mark.parametrize(
    ("experiment", "experiments"),
    [
        *((few_clusters(count), EXPERIMENTS) for count in (3, 5, 7)),
        (few_clusters(8), 400),
        (unequal, 400),
        (few_that_differ, 200),
    ],
    ids=["3 clusters", "5 clusters", "7 clusters", "8 clusters", "unequal", "few that differ"],
)
def test_where_clusters_are_few_or_unequal_null_experiments_are_covered(
    experiment, experiments, monkeypatch, record_property
):
    monkeypatch.setattr(paired, "RESAMPLES", 299)
    generators = (np.random.default_rng(number) for number in range(experiments))
    is_answers = experiment is few_that_differ
    found = [
        compare(experiment(generator), is_answers, number)
        for number, generator in enumerate(generators)
    ]
    covered = np.mean(
        [low <= 0 <= high for low, high in (each.items_interval_95 for each in found)]
    )
    errs = np.mean([each.items_p < 0.05 for each in found])
    record_property("covered", float(covered))
    record_property("false positives", float(errs))
    assert covered >= COVERED[0]
    assert errs == pytest.approx(1 - covered)
    if experiment not in (unequal, few_that_differ):
        assert covered <= COVERED[1], "as exact as Student's test, which it is"


def test_facts_asked_in_few_forms_are_covered(monkeypatch, record_property):
    """45 facts in 7 forms; both suit a condition, or not. Clusters of facts alone cover 0.80."""
    monkeypatch.setattr(paired, "RESAMPLES", 99)
    facts, forms = (part.ravel() for part in np.indices((45, 7)))
    covered, by_fact = [], []
    for number in range(300):
        generator = np.random.default_rng(number)
        ease = 0.8 * generator.normal(size=315)
        arms = []
        for _ in range(2):
            suits = 0.3 * generator.normal(size=45)[facts] + 0.3 * generator.normal(size=7)[forms]
            arms.append((ease + suits + generator.normal(size=315) > 0.5).astype(float)[None])
        both = Paired(*arms, np.ones(315), facts)
        for intervals, crossed in ((covered, forms), (by_fact, None)):
            low, high = compare(both, True, number, crossed).items_interval_95
            intervals.append(low <= 0 <= high)
    record_property("covered", float(np.mean(covered)))
    record_property("by fact alone", float(np.mean(by_fact)))
    assert np.mean(covered) >= COVERED[0]
    assert np.mean(by_fact) < 0.85


def test_an_effect_in_very_few_items_is_covered(monkeypatch, record_property):
    """Half a percent of 1,319 items is about 7 of them; the bootstrap alone covers 0.89."""
    monkeypatch.setattr(paired, "RESAMPLES", 299)
    covered = []
    for number in range(200):
        better = (np.random.default_rng(number).random((1, 1319)) < 0.005).astype(float)
        low, high = compare(
            Paired(np.zeros((1, 1319)), better, np.ones(1319), np.arange(1319)), True
        ).items_interval_95
        covered.append(low <= 0.005 <= high)
    record_property("covered", float(np.mean(covered)))
    assert COVERED[0] <= np.mean(covered) <= COVERED[1]


def hierarchical_bootstrap(paired: Paired, generator: np.random.Generator) -> tuple[float, float]:
    """The usual interval over seeds: percentiles of resampled seeds and, of those, resampled
    clusters.
    """
    differences, weights = by_cluster(paired)
    seeds, clusters = differences.shape
    drawn_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=299)
    drawn_items = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=299)
    estimates = (
        np.einsum("bs,sc,bc->b", drawn_seeds, differences, drawn_items)
        / seeds
        / (drawn_items @ weights)
    )
    return tuple(np.quantile(estimates, [0.025, 0.975]))


def losses(generator: np.random.Generator, seeds: int) -> Paired:
    """Bits per byte of 300 items: networks differ by 0.011, of one seed in both conditions alike by
    0.8.

    Other items move the difference by 0.001.
    """
    shared = generator.normal(size=(seeds, 1))
    arms = [
        0.011 * (np.sqrt(0.8) * shared + np.sqrt(0.2) * generator.normal(size=(seeds, 1)))
        for _ in range(2)
    ]
    noise = 0.001 * np.sqrt(300) * generator.normal(size=300)
    own = 0.0005 * np.sqrt(300) * generator.normal(size=(seeds, 300))
    return Paired(
        np.broadcast_to(arms[0], (seeds, 300)), arms[1] + noise + own, np.ones(300), np.arange(300)
    )


@pytest.mark.parametrize(("seeds", "of_seeds"), [(2, 0.02), (3, 0.02), (5, 0.02), (3, None)])
def test_over_seeds_the_interval_covers_what_others_do_not(
    seeds, of_seeds, monkeypatch, record_property
):
    """Seeds as they are: they move accuracies by half a percent (0.02 probits), and bits per byte
    by ten times what items do.
    """
    monkeypatch.setattr(paired, "RESAMPLES", 99)  # of no consequence over seeds
    generator = np.random.default_rng(0)
    generators = [np.random.default_rng(n) for n in range(EXPERIMENTS)]
    experiments = [
        answers(each, seeds=seeds, of_seeds=of_seeds) if of_seeds else losses(each, seeds)
        for each in generators
    ]
    found = [compare(paired, of_seeds is not None) for paired in experiments]
    intervals = {
        "over seeds": [each.seeds_interval_95 for each in found],
        "over items": [each.items_interval_95 for each in found],
        "hierarchical bootstrap": [
            hierarchical_bootstrap(paired, generator) for paired in experiments[:200]
        ],
    }
    covered = {
        name: np.mean([low <= 0 <= high for low, high in bounds])
        for name, bounds in intervals.items()
    }
    for name, share in covered.items():
        record_property(name, float(share))
    assert covered["over seeds"] >= COVERED[0], "never too narrow; see also benchmarks/intervals.py"
    assert np.mean([each.seeds_p < 0.05 for each in found]) == pytest.approx(
        1 - covered["over seeds"]
    )
    if of_seeds is None:
        assert covered["over seeds"] <= 0.98
        assert covered["over items"] < 0.5
        assert covered["hierarchical bootstrap"] < 0.85
    else:
        assert covered["over items"] > 0.9, "seeds hardly matter, and items are nearly all there is"


NOTHING = compare(Paired(np.zeros((1, 2)), np.zeros((1, 2)), np.ones(2), np.arange(2)), True)


def power_in_a_family(found: list, comparisons: int) -> float:
    """Return how often the verdict finds the difference among others of which none is one.

    Holm's first step multiplies the least p by the number of comparisons. That `judge` does so is
    checked on the first and the last of p only: statsmodels collects garbage in each call.
    """
    others = [
        Row("step 5", f"Figure {n}", "accuracy", "other", NOTHING) for n in range(comparisons - 1)
    ]
    ordered = sorted(found, key=lambda each: each.p)
    for each in (ordered[0], ordered[-1]):
        judged, *_ = judge([Row("step 5", "Figure", "accuracy", "other", each), *others])
        assert judged.adjusted_p == pytest.approx(min(each.p * comparisons, 1.0))
    return float(np.mean([each.p * comparisons < 0.05 for each in found]))


@pytest.mark.parametrize("comparisons", [1, 22])
def test_what_is_called_detectable_is_found_four_times_in_five(
    comparisons, monkeypatch, record_property
):
    """By the rule of the verdict, Holm's correction and all tests, in a family of which nothing
    else differs.
    """
    monkeypatch.setattr(paired, "RESAMPLES", 1999)
    effect = {1: 0.31, 22: 0.44}[comparisons]
    found = [compare(answers(np.random.default_rng(n), effect=effect), True, n) for n in range(200)]
    true = np.mean([each.difference for each in found])
    detectable = np.mean([each.detectable_among(comparisons) for each in found[:50]])
    power = power_in_a_family(found, comparisons)
    record_property("power", power)
    record_property("true / detectable", float(true / detectable))
    # Near the detectable difference the power is near 80 %; a tenth of it is worth about 8 points.
    assert true == pytest.approx(detectable, rel=0.1)
    assert power == pytest.approx(0.8 + 0.8 * (true / detectable - 1), abs=0.08)


@pytest.mark.parametrize(("comparisons", "share"), [(1, 0.021), (22, 0.037)])
def test_of_few_items_too_what_is_called_detectable_is_found_four_times_in_five(
    comparisons, share, monkeypatch, record_property
):
    """All items that differ are one condition's; McNemar's test decides, in steps."""
    monkeypatch.setattr(paired, "RESAMPLES", 999)
    found = []
    for number in range(200):
        better = (np.random.default_rng(number).random((1, 400)) < share).astype(float)
        found.append(
            compare(Paired(np.zeros((1, 400)), better, np.ones(400), np.arange(400)), True, number)
        )
    detectable = np.mean([each.detectable_among(comparisons) for each in found[:50]])
    power = power_in_a_family(found, comparisons)
    record_property("power", power)
    record_property("true / detectable", float(share / detectable))
    assert share == pytest.approx(detectable, rel=0.1)
    assert power == pytest.approx(0.8 + 0.8 * (share / detectable - 1), abs=0.1)


@pytest.mark.parametrize("is_paired", [True, False])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_over_seeds_too_what_is_called_detectable_is_found_four_times_in_five(seeds, is_paired):
    """Of normal figures by seed, shifted by what is detectable with their true error."""
    error, items = 0.01, Student(0.006, 500)
    generator = np.random.default_rng(0)
    for level in (0.05, 0.05 / 4):
        first, second = generator.normal(0, error, size=(2, 600, seeds))
        shared = generator.normal(0, items.error, size=600)
        drawn = [
            over_seeds(one, other + by, items, 0.0, is_paired)
            for one, other, by in zip(first, second, shared, strict=True)
        ]
        true = drawn[0].seeds._replace(error=error * np.sqrt(2 / seeds))
        shift = drawn[0]._replace(seeds=true).detectable(level)
        differences = (second - first).mean(axis=1) + shared + shift
        found = [
            two.p(difference) < level for two, difference in zip(drawn, differences, strict=True)
        ]
        assert np.mean(found) == pytest.approx(0.8, abs=0.08)


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
@pytest.mark.parametrize("name", CASES)
def test_the_simulated_figures_of_the_docs_are_covered(name, seeds, monkeypatch, record_property):
    """The benchmark's cases, 200 experiments each; docs/lab_notes.md has more of them.

    With one seed the interval is about other items alone, and no network of another seed need be
    in it.
    """
    monkeypatch.setattr(paired, "RESAMPLES", 199)
    found = simulate(CASES[name], seeds, 200)
    record_property("found", str(found))
    assert found.false == pytest.approx(1 - found.covered)
    if seeds > 1:
        # 1.7 standard errors of 200 experiments below 93 %; with few seeds it covers more.
        assert found.covered >= 0.90
        assert found.false <= 0.08
    elif name.startswith("loss, u 0.011"):
        assert found.covered < 0.5, "why one seed has no p for losses"
