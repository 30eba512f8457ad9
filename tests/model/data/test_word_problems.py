import itertools
import re
from collections import Counter
from fractions import Fraction

import pytest

from model.data import word_problems
from model.data.word_problems import (
    STORIES,
    held_out_problems,
    numbers_of,
    solve,
    training_problems,
)

WORDS = {"name": "Ann", "friend": "Bob", "thing": "pens"}
DRAWN = {"train": list(itertools.islice(training_problems(0), 3000)), "test": held_out_problems(0)}
# Names and things apart, a problem is its numbers and the rest of its words.
NAMED = re.compile(
    "|".join(sorted({*word_problems._NAMES, *word_problems._THINGS}, key=len, reverse=True))
)


def story_of(question: str) -> str:
    return re.sub(r"[0-9]+", "_", NAMED.sub("_", question))


@pytest.mark.parametrize("split", DRAWN)
def test_every_step_is_true_and_the_answer_is_the_last_result(split):
    for problem in DRAWN[split]:
        *steps, answer = problem.solution.split("\n")
        result = None
        for step in steps:
            left, sign, right, equals, result = step.split()
            assert equals == "="
            a, b = Fraction(left), Fraction(right)
            assert {"+": a + b, "-": a - b, "×": a * b, "÷": a / b}[sign] == Fraction(result), step
            assert int(result) >= 0
        assert answer == f"#### {result}"


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.question[:40])
def test_a_question_has_the_numbers_of_its_solution_and_no_slot_left(story):
    for numbers in itertools.chain(*numbers_of(story)):
        problem = solve(story, numbers, WORDS)
        assert not re.search(r"[{}]", problem.question)
        given = Counter(re.findall(r"[0-9]+", problem.question))
        *steps, _ = problem.solution.split("\n")
        used, results = Counter(), Counter()
        for step in steps:
            left, _, right, _, result = step.split()
            used += Counter([left, right])
            results[result] += 1
        results[steps[-1].split()[-1]] -= 1  # the answer is not used
        assert given == used - results


def test_how_many_more_is_more_than_none():
    [story] = [story for story in STORIES if "How many more" in story.question]
    assert all(a > b for a, b in itertools.chain(*numbers_of(story)))


def test_training_has_no_story_with_the_numbers_of_the_test():
    pairs = {
        split: {(NAMED.sub("_", problem.question), problem.solution) for problem in drawn}
        for split, drawn in DRAWN.items()
    }
    assert not pairs["train"] & pairs["test"]
    for story in STORIES:
        held_out, others = numbers_of(story)
        assert not set(held_out) & set(others)
        assert len(held_out) == min(16, (len(held_out) + len(others)) // 4)


def test_the_test_has_each_held_out_pair_once_and_stories_about_alike():
    pairs = Counter(
        (NAMED.sub("_", problem.question), problem.solution) for problem in DRAWN["test"]
    )
    assert set(pairs.values()) == {1}
    stories = Counter(story_of(problem.question) for problem in DRAWN["test"])
    assert len(stories) == len(STORIES)
    named = {(problem.story, story_of(problem.question)) for problem in DRAWN["test"]}
    assert len(named) == len({story for story, _ in named}) == len(STORIES), (
        "a problem names its own story"
    )
    assert {7, 9, 16} == set(stories.values())


def test_training_has_every_story_equally_often():
    stories = Counter(story_of(problem.question) for problem in DRAWN["train"])
    assert len(stories) == len(STORIES)
    assert max(stories.values()) < 1.5 * min(stories.values())


def test_what_is_drawn_depends_on_the_seed_alone():
    assert list(itertools.islice(training_problems(0), 3000)) == DRAWN["train"]
    assert list(itertools.islice(training_problems(1), 3000)) != DRAWN["train"]
    assert held_out_problems(0) == DRAWN["test"] != held_out_problems(1)


def test_a_step_takes_the_result_of_the_one_before():
    story = next(story for story in STORIES if story.steps == ("a × b", "_ - c"))
    assert solve(story, (3, 4, 5), WORDS)[1:] == (
        "Ann buys 3 bags of 4 pens and loses 5 pens. How many pens are left?",
        "3 × 4 = 12\n12 - 5 = 7\n#### 7",
    )
