"""What several checkpoints and tasks say together, of outcomes whose figures are known."""

import numpy as np
import pytest

from model.comparison.family import ABOVE_CHANCE, compare_outcomes, judge
from model.comparison.outcomes import VALIDATION, Outcomes
from model.comparison.outcomes_file import Key, outcome_lines, parse_outcomes
from model.comparison.runs import TASK_SCORE, TRUE_ANSWERS, compare_runs

CONDITIONS = ("baseline", "other")


def answered(right: list[int], item_set: str, chance: float) -> Outcomes:
    values = np.array(right, dtype=float)
    clusters = [str(number) for number in range(len(right))]
    return Outcomes(
        values, np.ones(len(right)), clusters, item_set, True, item_set=item_set, chance=chance
    )


def bits(values: list[float], item_set: str = "", role: str = "") -> Outcomes:
    clusters = [str(number) for number in range(len(values))]
    weights = np.full(len(values), 10.0)
    return Outcomes(
        np.array(values), weights, clusters, f"{item_set} bits", False, None, item_set, None, role
    )


def runs(seeds: tuple[int, ...] = (1,), steps: tuple[int, ...] = (10, 500, 1000)):
    """Two tasks, one of them in two wordings, of four and of two endings."""
    found = {}
    generator = np.random.default_rng(0)
    for number, condition in enumerate(CONDITIONS):
        for seed in seeds:
            for step in steps:
                key = Key(condition, seed, f"step {step}", "")
                right = (generator.random(60) < 0.4 + 0.1 * number).astype(int).tolist()
                found[key._replace(figure="four")] = answered(right, "four", 0.25)
                found[key._replace(figure="four, reworded")] = answered(right, "four", 0.25)
                found[key._replace(figure="two")] = answered(right[:40], "two", 0.5)
            last = Key(condition, seed, f"step {steps[-1]}", "")
            for name, base in (("four", 20.0), ("two", 30.0)):
                values = (base + number + generator.random(60)).tolist()
                found[last._replace(figure=f"{name}, true")] = bits(values, name)
            validation = bits((25 + generator.random(50)).tolist(), role="primary")
            found[last._replace(figure=VALIDATION)] = validation
    return found


def by_figure(found, seeds=(1,)):
    rows = compare_runs(found, found, CONDITIONS, list(seeds))
    return {(row.model, row.figure): row for row in rows}


def test_the_task_score_is_the_mean_over_tasks_of_what_is_above_chance():
    found = runs()
    row = by_figure(found)["mean of 2 checkpoints", TASK_SCORE]

    def score(condition: str) -> float:
        late = [
            [found[Key(condition, 1, f"step {step}", task)].values.mean() for step in (500, 1000)]
            for task in ("four", "two")
        ]
        four, two = np.mean(late, axis=1)
        return ((four - 0.25) / 0.75 + (two - 0.5) / 0.5) / 2

    assert row.comparison.first == pytest.approx(score("baseline"))
    assert row.comparison.second == pytest.approx(score("other"))
    assert (row.unit, row.role) == (ABOVE_CHANCE, "secondary")
    assert row.comparison.items == 100, "a task in two wordings counts once"
    assert row.name == "task score (share above chance)"


def test_the_mean_over_checkpoints_leaves_out_the_first_tenth_of_training():
    rows = by_figure(runs())
    mean, steps = (
        rows["mean of 2 checkpoints", "two"],
        [rows[f"step {n}", "two"] for n in (500, 1000)],
    )
    assert mean.comparison.difference == pytest.approx(
        np.mean([row.comparison.difference for row in steps])
    )
    one = by_figure(runs(steps=(1000,)))
    assert ("step 1000", TASK_SCORE) in one
    assert not any(model.startswith("mean") for model, _ in one)


def test_true_answers_are_the_mean_of_the_tasks_at_the_last_checkpoint():
    rows = by_figure(runs())
    row = rows["step 1000", TRUE_ANSWERS]
    parts = [rows["step 1000", f"{name}, true"].comparison for name in ("four", "two")]
    assert row.comparison.difference == pytest.approx(np.mean([each.difference for each in parts]))
    assert row.comparison.first == pytest.approx(np.mean([each.first for each in parts]))


def test_the_primary_figure_comes_first_and_few_are_tested():
    seeds = (1, 2, 3)
    judged = judge(compare_runs(runs(seeds), runs(seeds), CONDITIONS, list(seeds)))
    assert [each.row.figure for each in judged[:3]] == [VALIDATION, TASK_SCORE, TRUE_ANSWERS]
    assert [each.comparisons for each in judged[:3]] == [1, 2, 2]
    assert all(each.holm_p is None for each in judged[3:])


def test_with_one_seed_each_condition_has_a_family_of_its_own():
    """A p of resamples has a floor, which as many members as of one family of all would exceed."""
    arms = [answered([1] * right + [0] * (60 - right), "four", 0.25) for right in (5, 55)]
    row = compare_outcomes("step 1", "four", "other", ([arms[0]], [arms[1]]))
    assert row.comparison.p == 2 / 5000
    rows = [
        row._replace(second=f"condition {second}", figure=f"figure {figure}", outcomes="")
        for second in range(5)
        for figure in range(50)
    ]
    judged = judge(rows)
    assert {each.comparisons for each in judged} == {50}
    assert all(each.is_different for each in judged)


def test_the_file_of_outcomes_gives_the_same_rows():
    found = runs((1, 2))
    again = parse_outcomes(outcome_lines(found), "file")
    for key, row in by_figure(found, (1, 2)).items():
        other = by_figure(again, (1, 2))[key]
        assert other.comparison.difference == pytest.approx(row.comparison.difference, abs=1e-4)
        assert (other.role, other.unit) == (row.role, row.unit)


def test_a_wrong_role_or_chance_in_the_file_is_named():
    text = outcome_lines(runs())
    for wrong in (
        text.replace('"primary"', '"first"'),
        text.replace('"chance":0.25', '"chance":1'),
    ):
        with pytest.raises(Exception, match="file: not the compare stage's"):
            parse_outcomes(wrong, "file")


def test_other_items_stop_the_comparison_or_are_named():
    found = runs()
    key = Key("other", 1, "step 500", "two")
    found[key] = found[key]._replace(items="others")
    with pytest.raises(ValueError, match="step 500, two: answered 2 sets of items"):
        compare_runs(found, found, CONDITIONS, [1])
    apart = []
    rows = compare_runs(found, found, CONDITIONS, [1], apart)
    assert apart == ["step 500, two: answered 2 sets of items"]
    assert ("step 500", "two") not in {(row.model, row.figure) for row in rows}
