"""Known answers, and simulated experiments in which the truth is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from model.comparison.family import Row, judge
from model.statistics import paired
from model.statistics.paired import (
    Paired,
    Student,
    bootstrap,
    by_cluster,
    compare,
    holm,
    jackknife,
    mcnemar_p,
    sign_flip_p,
)

EXPERIMENTS = 1000
# 99.6 % of binomial counts of 1,000 experiments are within, if the true rate is 95 %.
COVERED = (0.93, 0.97)


def answers(generator, seeds=1, clusters=200, effect=0.0, of_seeds=0.0, of_items=0.0) -> Paired:
    """Two conditions on the same items, by a probit model; about two items share a source."""
    members = np.repeat(np.arange(clusters), generator.integers(1, 4, clusters))
    items = len(members)
    ease = 0.8 * generator.normal(size=clusters)[members] + 0.6 * generator.normal(size=items)
    arms = []
    for helped in (0.0, effect):
        suits = helped + of_items * generator.normal(size=clusters)[members]
        networks = [
            ease + suits + of_seeds * generator.normal() + generator.normal(size=items) > 0.5
            for _ in range(seeds)
        ]
        arms.append(np.array(networks, dtype=float))
    return Paired(*arms, np.ones(items), members)


def test_identical_arms_are_no_difference():
    paired = answers(np.random.default_rng(0))
    found = compare(paired._replace(second=paired.first), is_answers=True)
    assert (found.difference, found.items_interval_95, found.items_p, found.mcnemar_p) == (
        0,
        (0, 0),
        1,
        1,
    )
    several = answers(np.random.default_rng(0), seeds=3)
    found = compare(several._replace(second=several.first), is_answers=True)
    assert (found.difference, found.seeds_interval_95, found.seeds_p) == (0, (0, 0), 1)


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_planted_difference_is_found_at_its_size(seeds):
    generator = np.random.default_rng(1)
    paired = answers(generator, seeds=seeds, clusters=500)
    items = paired.first.shape[1]
    better = paired.first.copy()
    for row in better:
        row[generator.choice(np.flatnonzero(row == 0), size=items // 10, replace=False)] = 1
    found = compare(paired._replace(second=better), is_answers=True)
    assert found.difference == pytest.approx((items // 10) / items)
    low, high = found.seeds_interval_95 or found.items_interval_95
    assert 0.05 < low < found.difference < high < 0.15
    assert found.p < 0.01
    assert found.detectable < 0.1


def test_bits_per_byte_weigh_items_by_their_bytes():
    generator = np.random.default_rng(2)
    weights = generator.integers(10, 200, size=300).astype(float)
    first = weights * generator.normal(2.5, 0.2, size=300)
    paired = Paired(first[None], first[None] - 0.1 * weights, weights, np.arange(300))
    found = compare(paired, is_answers=False)
    assert found.difference == pytest.approx(-0.1)
    assert found.first == pytest.approx(first.sum() / weights.sum())
    assert found.items_interval_95 == pytest.approx((-0.1, -0.1))
    assert found.mcnemar_p is None


def test_items_of_one_source_are_one_witness():
    """Every item ten times over says no more than once."""
    once = answers(np.random.default_rng(3), effect=0.2)
    tenfold = Paired(*(np.repeat(part, 10, axis=-1) for part in once))
    found, expected = compare(tenfold, is_answers=True), compare(once, is_answers=True)
    assert found.items_interval_95 == pytest.approx(expected.items_interval_95)
    assert found.items_p == pytest.approx(expected.items_p)
    assert found.mcnemar_p < expected.mcnemar_p, "McNemar's test takes them for independent"


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_mcnemar_is_a_fair_coin_on_the_items_that_one_alone_has_right(
    only_first, only_second, both
):
    first = np.array([1] * only_first + [0] * only_second + [1] * both)
    second = np.array([0] * only_first + [1] * only_second + [1] * both)
    tosses = only_first + only_second
    assert mcnemar_p(first, second) == pytest.approx(
        stats.binomtest(only_first, tosses).pvalue if tosses else 1.0
    )


def test_holm_multiplies_the_least_by_all_and_the_next_by_one_less():
    assert holm([0.04, 0.01, 0.5, 0.03]) == pytest.approx([0.09, 0.04, 0.5, 0.09])
    assert holm([]) == []


def test_the_same_seed_gives_the_same_bounds():
    differences, weights = by_cluster(answers(np.random.default_rng(4)))
    assert bootstrap(differences[0], weights, 7) == bootstrap(differences[0], weights, 7)
    assert bootstrap(differences[0], weights, 7) != bootstrap(differences[0], weights, 8)


def test_the_interval_agrees_with_students_where_that_is_exact():
    values = np.random.default_rng(5).normal(size=400)
    interval, p = bootstrap(values, np.ones(400), 0)
    exact = stats.t.interval(0.95, 399, values.mean(), values.std(ddof=1) / 20)
    assert interval == pytest.approx(exact, abs=0.004)
    assert p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=40), st.integers(0, 9))
def test_p_and_the_interval_say_the_same(values, seed):
    (low, high), p = bootstrap(np.array(values), np.ones(len(values)), seed)
    assert (low <= 0 <= high) == (p >= 0.05)


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30),
    st.integers(1, 4),
    st.booleans(),
)
def test_answers_keep_within_their_bounds_and_p_within_its_resolution(pairs, size, is_alike):
    """For any answers in clusters of `size`, p and the interval agree and stay in their range."""
    first, second = np.array(pairs, dtype=float).T[:, None]
    clusters = np.arange(len(pairs)) // size
    if clusters[-1] == 0:
        return
    said = compare(
        Paired(first, np.ones_like(second) if is_alike else second, np.ones(len(pairs)), clusters),
        True,
    )
    low, high = said.items_interval_95
    assert -1 <= low <= said.difference <= high <= 1
    assert (low <= 0 <= high) == (said.items_p >= 0.05)
    assert 1 / (paired.RESAMPLES + 1) <= said.items_p <= 1
    assert said.detectable is None or 0 < said.detectable <= 1
    if size == 1:
        assert said.items_p >= said.mcnemar_p - 1e-12


@pytest.mark.parametrize(
    ("clusters", "p"), [(2, 0.5), (3, 0.25), (4, 0.125), (6, 2**-5), (20, 1 / 5000)]
)
@pytest.mark.parametrize(("items", "changed"), [(25, 7), (5, 2), (10, 3), (7, 7)])
def test_clusters_that_change_alike_are_no_more_than_their_number(clusters, p, items, changed):
    """Rounding leaves an error of 1e-17; Student's t would give four such clusters p = 8.7e-49."""
    second = np.tile([1.0] * changed + [0.0] * (items - changed), clusters)[None]
    paired = Paired(
        np.zeros_like(second),
        second,
        np.ones(items * clusters),
        np.repeat(np.arange(clusters), items),
    )
    said = compare(paired, True)
    assert (said.items_p, said.detectable) == (pytest.approx(p), None)
    assert said.items_interval_95 == pytest.approx(
        (0 if p >= 0.05 else changed / items, changed / items)
    )


@pytest.mark.parametrize("unit", [1e-4, 1.0, 1e6])
def test_equal_changes_of_bits_per_byte_are_rounding_in_any_unit(unit):
    weights = np.arange(1.0, 7.0)
    first = unit * weights * np.random.default_rng(0).normal(2.5, 0.2, 6)
    paired = Paired(first[None], (first - 0.1 * unit * weights)[None], weights, np.arange(6))
    said = compare(paired, False)
    assert said.student.error == 0
    assert said.items_p == pytest.approx(2.0 ** -(21**2 / 91 - 1)), (
        "six clusters of weight 1 to 6 are 4.8 equal ones"
    )
    several = compare(Paired(*(np.tile(part, (3, 1)) for part in paired[:2]), *paired[2:]), False)
    assert several.seeds_p == 0.25, "three seeds that agree"


def test_resamples_of_equal_clusters_do_not_widen_the_interval():
    """In units of its rounding error, a resample of clusters that agree would be far off."""
    differences = np.array([7.0] * 9 + [8.0])
    (low, high), _ = bootstrap(differences, np.full(10, 25.0), 0)
    assert 0.2 < low < high < 0.4


@pytest.mark.parametrize("clusters", [2, 3, 5, 7])
def test_with_fewer_than_eight_clusters_it_is_students_test(clusters):
    values = np.random.default_rng(clusters).normal(0.3, size=clusters)
    (low, high), p = bootstrap(values, np.ones(clusters), 0)
    exact = stats.ttest_1samp(values, 0)
    assert p == pytest.approx(exact.pvalue)
    assert (low, high) == pytest.approx(tuple(exact.confidence_interval(0.95)))


def test_the_jackknife_leaves_out_each_cluster_and_counts_them_by_weight():
    differences, weights = np.array([3.0, -1, 2, 0]), np.array([9.0, 1, 1, 1])
    without = [np.delete(differences, n).sum() / np.delete(weights, n).sum() for n in range(4)]
    error, freedom = jackknife(differences, weights)
    assert error == pytest.approx(np.sqrt(3 / 4 * np.sum((without - np.mean(without)) ** 2)))
    assert freedom == pytest.approx(12**2 / 84 - 1 if 12**2 / 84 > 2 else 1)
    assert jackknife(differences, np.ones(4)) == pytest.approx((differences.std(ddof=1) / 2, 3))


def test_p_is_no_smaller_than_the_resamples_tell():
    values = np.random.default_rng(0).normal(1.0, 0.1, 1000)
    assert bootstrap(values, np.ones(1000), 0)[1] == 2 / 5000
    assert stats.ttest_1samp(values[:5], 0).pvalue < 1 / 5000
    assert bootstrap(values[:5], np.ones(5), 0)[1] == 1 / 5000


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=8))
def test_the_test_of_signs_is_an_enumeration_of_all_signs(differences):
    flipped = [
        sum(map(np.prod, zip(differences, signs, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    as_far = np.mean(np.abs(flipped) >= abs(sum(differences)))
    assert sign_flip_p(np.array(differences, dtype=float)) == pytest.approx(as_far)


@pytest.mark.parametrize(
    ("items", "more", "fewer", "p"),
    [(1000, 5, 0, 0.0625), (7, 5, 0, 0.0625), (100, 7, 1, 0.0703125)],
)
def test_few_items_that_differ_are_judged_by_mcnemar(items, more, fewer, p):
    """Of 5 to 0 the bootstrap and Student's t have 0.025."""
    first, second = np.zeros((1, items)), np.zeros((1, items))
    second[0, :more], first[0, more : more + fewer] = 1, 1
    said = compare(Paired(first, second, np.ones(items), np.arange(items)), True)
    assert (said.items_p, said.mcnemar_p) == (pytest.approx(p), pytest.approx(p))
    assert said.items_interval_95[0] <= 0
    pairs = Paired(
        *(np.repeat(part, 2, axis=-1) for part in (first, second, np.ones(items), np.arange(items)))
    )
    if items >= 100:
        assert compare(pairs, True).items_p >= p, "two items of one source are no two witnesses"


def test_facts_in_few_forms_vary_by_form_too():
    """Seven forms: a condition that is right in one form for all facts is one witness, not 45."""
    facts, forms = (part.ravel() for part in np.indices((45, 7)))
    first = np.zeros((1, 315))
    second = np.where(forms == 3, 1.0, 0.0)[None]
    second[0, ::11] = 1.0
    paired = Paired(first, second, np.ones(315), facts)
    by_fact, both = compare(paired, True), compare(paired, True, crossed=forms)
    assert by_fact.items_p < 0.001
    assert both.items_p > 0.1
    assert (both.effective_clusters, both.crossed, both.clusters) == (pytest.approx(7), 7, 45)
    by_form = jackknife(np.bincount(forms, (second - first)[0]), np.full(7, 45.0))
    _, high = both.items_interval_95
    assert high - both.difference == pytest.approx(both.student.half())
    assert both.student.freedom == 6
    assert both.student.error >= by_form.error
    one_form = compare(paired, True, crossed=np.zeros(315, dtype=int))
    assert one_form.items_p == by_fact.items_p, "a second way that tells nothing changes nothing"


@pytest.mark.parametrize("clusters", [18, 200])
def test_the_bootstrap_interval_covers_and_the_test_errs_one_time_in_twenty(
    clusters, monkeypatch, record_property
):
    """Null experiments: over all possible items the two networks are alike.

    18 clusters are as many as the generated problems have.
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
    # Most sources do not differ, and the exact test of the few that do is a little conservative.
    assert COVERED[0] <= covered <= 0.98
    assert 0.02 <= errs <= 0.07


def unequal(generator: np.random.Generator) -> Paired:
    """One source with half of all bytes, and twenty others.

    Over all possible sources no condition is better.
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
    """The usual interval over seeds: percentiles of resampled seeds, then of their clusters."""
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
    """Bits per byte of 300 items: networks differ by 0.011, those of one seed correlate by 0.8.

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
    """Seeds as measured.

    They move accuracies by half a percent (0.02 probits), and bits per byte by ten times what items
    do.
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
    assert covered["over seeds"] >= COVERED[0]
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
    """By the verdict's rule, Holm's correction and all tests, where nothing else differs."""
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


def test_what_is_detectable_among_22_comparisons_is_1_39_times_that_of_one():
    """Of many items: (z(1 - .05 / 44) + z(.8)) / (z(.975) + z(.8))."""
    found = compare(answers(np.random.default_rng(0), clusters=2000), True)
    normal = stats.norm.ppf([1 - 0.05 / 44, 0.975]) + stats.norm.ppf(0.8)
    assert found.detectable_among(22) / found.detectable == pytest.approx(
        normal[0] / normal[1], abs=0.01
    )
    assert normal[0] / normal[1] == pytest.approx(1.39, abs=0.005)
    assert found.detectable_among(200) is None, "4,999 resamples do not tell p below 0.05 / 200"


def test_twelve_items_detect_nothing_beyond_what_is_possible():
    first, second = np.zeros((1, 12)), np.zeros((1, 12))
    second[0, :4], first[0, 4:9] = 1, 1
    said = compare(Paired(first, second, np.ones(12), np.arange(12)), True)
    low, high = said.items_interval_95
    assert -1 <= low < high <= 1
    assert said.detectable <= 1
    assert said.detectable_among(22) is None
    two = compare(Paired(np.zeros((1, 2)), np.array([[1.0, 0.0]]), np.ones(2), np.arange(2)), True)
    assert two.items_interval_95 == (-1, 1)
    seeds = Paired(
        np.array([[1.0, 0, 0], [0, 0, 0]]),
        np.array([[0.0, 0, 1], [1, 1, 1]]),
        np.ones(3),
        np.arange(3),
    )
    assert compare(seeds, True).seeds_interval_95 == (-1, 1)


@pytest.mark.parametrize("seeds", [2, 3])
def test_over_seeds_too_what_is_called_detectable_is_found_four_times_in_five(seeds):
    """Student's test of normal differences by seed, shifted by the detectable difference."""
    error = 0.01
    for level in (0.05, 0.05 / 22):
        shift = Student(error, seeds - 1).detectable(level)
        by_seed = np.random.default_rng(0).normal(
            shift, error * np.sqrt(seeds), size=(20_000, seeds)
        )
        assert np.mean(stats.ttest_1samp(by_seed, 0, axis=1).pvalue < level) == pytest.approx(
            0.8, abs=0.01
        )


def test_where_nothing_varied_nothing_is_called_detectable():
    paired = answers(np.random.default_rng(0))
    assert compare(paired._replace(second=paired.first), is_answers=True).detectable is None
    opposite = Paired(np.zeros((1, 2)), np.ones((1, 2)), np.ones(2), np.arange(2))
    found = compare(opposite, is_answers=True)
    assert (found.items_p, found.mcnemar_p, found.detectable) == (0.5, 0.5, None), (
        "two items are no proof"
    )
    twice = opposite._replace(first=np.zeros((2, 2)), second=np.ones((2, 2)))
    assert compare(twice, is_answers=True).seeds_p == 0.5, "nor are two seeds"


@pytest.mark.parametrize("items", [0, 5])
def test_one_cluster_is_nothing_to_compare(items):
    with pytest.raises(ValueError, match=f"{items} items in {min(items, 1)} clusters"):
        compare(
            Paired(
                np.ones((1, items)), np.ones((1, items)), np.ones(items), np.zeros(items, dtype=int)
            ),
            True,
        )
