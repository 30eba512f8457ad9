"""Known answers, and simulated experiments in which the truth is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from simulated_answers import answers

from model.statistics import paired
from model.statistics.paired import (
    Paired,
    bootstrap,
    by_cluster,
    compare,
    holm,
    jackknife,
    mcnemar_p,
    sign_flip_p,
)


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
    assert (found.difference, found.items_interval_95, found.seeds_p) == (0, (0, 0), 1)


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
