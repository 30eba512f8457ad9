"""The interval over seeds in two parts: known answers of its formula, and what it has to keep."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from simulated_answers import answers

from model.statistics.over_seeds import OverSeeds, Student, over_seeds
from model.statistics.paired import Paired, Term, compare, compare_sum

ITEMS = Student(0.004, 900)
variances = st.floats(1e-5, 0.1)


def test_the_formula_has_a_known_answer():
    """Three seeds: t is 2.776 with 4 degrees of freedom, 4.303 with 2."""
    first, second = np.array([0.30, 0.31, 0.32]), np.array([0.33, 0.33, 0.36])
    unpaired = over_seeds(first, second, ITEMS, own=0.25, is_paired=False)
    by_seeds = 2.776445 * math.sqrt((0.0001 + 0.0003) / 3)
    by_items = 1.962605 * 0.004
    assert unpaired.half(0.05) == pytest.approx(math.hypot(by_seeds, math.sqrt(0.75) * by_items))
    paired = over_seeds(first, second, ITEMS, own=0.25, is_paired=True)
    assert paired.seeds == (pytest.approx(math.sqrt(0.0001 / 3)), 2)


def test_losses_are_paired_by_seed_and_accuracies_are_not():
    generator = np.random.default_rng(0)
    both = answers(generator, seeds=3)
    as_loss, as_accuracy = compare(both, False), compare(both, True)
    assert (as_loss.over_seeds.seeds.freedom, as_accuracy.over_seeds.seeds.freedom) == (2, 4)
    by_seed = (both.second - both.first).mean(axis=1)
    assert as_loss.over_seeds.seeds.error == pytest.approx(stats.sem(by_seed))
    swapped = both._replace(second=both.second[[1, 2, 0]])
    assert compare(swapped, True).seeds_interval_95 == pytest.approx(as_accuracy.seeds_interval_95)


@given(variances, variances, st.floats(0, 1), st.integers(1, 8), st.floats(0.001, 0.3))
def test_p_is_the_level_whose_interval_ends_at_0(of_seeds, of_items, beyond, freedom, difference):
    two = OverSeeds(Student(of_seeds, freedom), Student(of_items, 500), beyond)
    p = two.p(difference)
    assert 0 < p <= 1
    if 1e-11 < p < 1:
        assert two.half(p) == pytest.approx(difference, rel=1e-6)
    assert (p < 0.05) == (two.half(0.05) < difference)
    assert two.p(-difference) == p


@given(variances, variances, st.floats(0, 1), st.integers(1, 8))
def test_seeds_never_narrow_the_interval_over_items(of_seeds, of_items, beyond, freedom):
    items = Student(of_items, 500)
    two = OverSeeds(Student(of_seeds, freedom), items, beyond)
    assert two.half(0.05) >= items.half()


def test_more_seeds_find_more():
    """With t on both parts, as the usual test has it, three seeds found less than one."""
    found = [
        np.mean(
            [
                compare(
                    answers(np.random.default_rng(n), seeds=seeds, effect=0.3, of_seeds=0.02), True
                ).p
                < 0.05
                for n in range(60)
            ]
        )
        for seeds in (1, 3, 5)
    ]
    assert found[0] < found[1] < found[2]


def test_a_sum_of_one_term_is_that_figure():
    both = answers(np.random.default_rng(3), seeds=3, effect=0.1)
    alone, summed = compare(both, True), compare_sum([Term(both, scale=2.0, offset=-1.0)], True)
    assert summed.first == pytest.approx(2 * alone.first - 1)
    assert summed.difference == pytest.approx(2 * alone.difference)
    assert summed.seeds_p == pytest.approx(alone.seeds_p)
    assert summed.items_p == alone.items_p


def test_the_errors_of_a_sum_add_up_and_what_networks_share_is_seen():
    generator = np.random.default_rng(4)
    tasks = [answers(generator, seeds=4, clusters=300) for _ in range(4)]
    terms = [Term(task, scale=0.25) for task in tasks]
    summed, apart = compare_sum(terms, True), [compare(task, True) for task in tasks]
    assert summed.student.error == pytest.approx(
        0.25 * math.sqrt(sum(each.student.error**2 for each in apart))
    )
    assert summed.items == sum(each.items for each in apart)
    # The same networks are better in all tasks: tasks taken as independent would not see it.
    better = np.array([0.0, 0.1, 0.2, 0.3])
    moved = [
        term._replace(paired=term.paired._replace(second=term.paired.second + better[:, None]))
        for term in terms
    ]
    shared = compare_sum(moved, True).over_seeds.seeds.error
    assert shared == pytest.approx(better.std(ddof=1) / 2, rel=0.1)


def test_means_over_checkpoints_are_judged_without_the_test_of_signs():
    """A half is no answer that could change its sign."""
    first = np.array([[0.0, 0.5, 1.0, 0.5] * 50])
    second = np.array([[0.5, 0.5, 1.0, 1.0] * 50])
    found = compare(Paired(first, second, np.ones(200), np.arange(200)), True)
    assert (found.signs, found.mcnemar_p) == (None, None)
    assert found.difference == pytest.approx(0.25)
    assert found.items_p < 0.001
