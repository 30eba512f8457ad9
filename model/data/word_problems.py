"""Generate word problems of one or two steps, solved in GSM8K's style: `… = 24`, `#### 24`.

A problem is a story and its small whole numbers. Of each story's combinations of numbers, sixteen
(at most a quarter) are held out: training has none of these pairs of a story and its numbers, and
the test has each of them once. The pair is held out, not the computation. Another story may have
taught that 6 × 9 is 54; the test measures whether the model finds that this story needs it.
"""

import hashlib
import itertools
import operator
import random
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_DIGITS = range(2, 10)
# Combinations held out of each story. Most stories have that many, so they count alike.
_HELD_OUT = 16
_OPERATIONS = {"+": operator.add, "-": operator.sub, "×": operator.mul, "÷": operator.floordiv}
_NAMES = (
    "Anna",
    "Ben",
    "Clara",
    "David",
    "Emma",
    "Frank",
    "Grace",
    "Jack",
    "Mary",
    "Paul",
    "Rosa",
    "Tom",
)
_THINGS = ("apples", "balls", "books", "cards", "cups", "pens", "plums", "shells", "stamps", "toys")


class Problem(NamedTuple):
    """A word problem: its story's template, the question, and the solution's lines."""

    story: str
    question: str
    solution: str


class Story(NamedTuple):
    """A template of a question and the steps of its solution, each of two numbers and a sign.

    {a}, {b} and {c} are numbers from 2 to 9, {ab} is a × b, {name} and {friend} are people, and
    {thing} is what they have. A step may use `_`, the result of the step before. No result is below
    `least`. The steps ("a × b", "_ + c") with 3, 4 and 5 give the solution

        3 × 4 = 12
        12 + 5 = 17
        #### 17
    """

    question: str
    steps: tuple[str, ...]
    least: int = 0


STORIES = (
    Story(
        "{name} has {a} {thing} and buys {b} more. How many {thing} does {name} have now?",
        ("a + b",),
    ),
    Story(
        "{name} has {a} {thing} and {friend} has {b}. How many {thing} do they have together?",
        ("a + b",),
    ),
    Story(
        "There are {a} {thing} in a box and {b} on the table. How many {thing} are there in all?",
        ("a + b",),
    ),
    Story(
        "{name} reads {a} pages in the morning and {b} in the evening. How many pages is that?",
        ("a + b",),
    ),
    Story(
        "{name} has {a} {thing} and gives {b} of them to {friend}. How many {thing} are left?",
        ("a - b",),
    ),
    Story(
        "There were {a} {thing} on the shelf, and {name} took {b}. How many are still there?",
        ("a - b",),
    ),
    Story(
        "{name} has {a} {thing} and {friend} has {b}. How many more {thing} does {name} have?",
        ("a - b",),
        least=1,
    ),
    Story(
        "{name} has {a} boxes with {b} {thing} each. How many {thing} does {name} have?", ("a × b",)
    ),
    Story(
        "Each of {a} children has {b} {thing}. How many {thing} do they have in all?", ("a × b",)
    ),
    Story("A book costs {a} dollars. How many dollars do {b} books cost?", ("a × b",)),
    Story("{name} works {a} hours a day. How many hours does {name} work in {b} days?", ("a × b",)),
    Story(
        "{name} shares {ab} {thing} among {a} friends. How many {thing} does each friend get?",
        ("ab ÷ a",),
    ),
    Story(
        "{name} puts {ab} {thing} into {a} equal boxes. How many {thing} are in each box?",
        ("ab ÷ a",),
    ),
    Story(
        "{name} has {a} boxes with {b} {thing} each and {c} {thing} more. How many {thing} is "
        "that?",
        ("a × b", "_ + c"),
    ),
    Story(
        "A cup costs {a} dollars and a lamp {c} dollars. What do {b} cups and a lamp cost?",
        ("a × b", "_ + c"),
    ),
    Story(
        "{name} buys {a} bags of {b} {thing} and loses {c} {thing}. How many {thing} are left?",
        ("a × b", "_ - c"),
    ),
    Story(
        "{name} has {a} {thing}, gets {b} from {friend} and {c} from a sister. How many is that?",
        ("a + b", "_ + c"),
    ),
    Story(
        "{name} has {a} {thing}, buys {b} and then loses {c}. How many {thing} are left?",
        ("a + b", "_ - c"),
    ),
)


def training_problems(seed: int) -> Iterator[Problem]:
    """Yield problems without end, none of them held out; each story is equally likely."""
    generator = random.Random(seed)
    while True:
        story = generator.choice(STORIES)
        yield _told(story, generator.choice(numbers_of(story)[1]), generator)


def held_out_problems(seed: int) -> list[Problem]:
    """Return a problem for each held-out pair of a story and its numbers, shuffled by `seed`."""
    generator = random.Random(seed)
    pairs = [(story, numbers) for story in STORIES for numbers in numbers_of(story)[0]]
    generator.shuffle(pairs)
    return [_told(story, numbers, generator) for story, numbers in pairs]


@cache
def numbers_of(story: Story) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return the combinations that the story can have: those held out, and the others.

    A hash of the story and the numbers chooses the held-out ones. A story of two numbers from 2 to
    9 has at most 64 combinations, of which 16 are held out.
    """
    count = 3 if any("c" in step for step in story.steps) else 2
    # Combinations without a result below the story's least, such as a negative one.
    possible = [
        numbers
        for numbers in itertools.product(_DIGITS, repeat=count)
        if min(result for *_, result in _solved(story, numbers)) >= story.least
    ]
    # A hash of story and numbers: the held-out ones stay the same for any seed.
    drawn = sorted(
        possible, key=lambda numbers: hashlib.sha256(f"{story.question}{numbers}".encode()).digest()
    )
    held_out = min(_HELD_OUT, len(possible) // 4)
    return sorted(drawn[:held_out]), sorted(drawn[held_out:])


def solve(story: Story, numbers: tuple[int, ...], words: dict[str, str]) -> Problem:
    """Return a story's problem for the values of a, b and c, with a solution line per step."""
    lines = [
        f"{left} {sign} {right} = {result}" for left, sign, right, result in _solved(story, numbers)
    ]
    # The answer is the result of the last step.
    lines.append(f"#### {lines[-1].split()[-1]}")
    return Problem(
        story.question, story.question.format_map({**words, **_values(numbers)}), "\n".join(lines)
    )


def _told(story: Story, numbers: tuple[int, ...], generator: random.Random) -> Problem:
    """Return the story's problem with people and a thing drawn from `generator`."""
    name, friend = generator.sample(_NAMES, 2)
    return solve(
        story, numbers, {"name": name, "friend": friend, "thing": generator.choice(_THINGS)}
    )


def _solved(story: Story, numbers: tuple[int, ...]) -> list[tuple[int, str, int, int]]:
    """Return each step as (left, sign, right, result): (3, "×", 4, 12)."""
    values, solved = _values(numbers), []
    for step in story.steps:
        left, sign, right = step.split()
        result = _OPERATIONS[sign](values[left], values[right])
        solved.append((values[left], sign, values[right], result))
        values["_"] = result
    return solved


def _values(numbers: tuple[int, ...]) -> dict[str, int]:
    """Return the values of a, b, ab and, with three numbers, c."""
    values = dict(zip("abc", numbers, strict=False))
    return {**values, "ab": values["a"] * values["b"]}
