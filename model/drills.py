"""Generated arithmetic drills: short documents of true multiplication statements in many surface forms."""

import random
from collections.abc import Iterator

# Symbol forms are those that `model.facts.inject` reads; the word forms reach the model as plain text in every condition.
_FORMS = (
    "{a} × {b} = {p}.",
    "{a} * {b} = {p}.",
    "{a} x {b} = {p}.",
    "{a}*{b}={p}.",
    "We know that {a} × {b} = {p}.",
    "What is {a} × {b} ? It is {p}.",
    "{A} times {b} is {p}.",
    "{A} multiplied by {b} gives {p}.",
    "The product of {a} and {b} is {p}.",
    "{A} rows of {b} chairs make {p} chairs.",
    "A box holds {b} eggs, so {a} boxes hold {p} eggs.",
    "At {b} dollars each, {a} tickets cost {p} dollars.",
)
_WORDS = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
_STATEMENTS_PER_DOCUMENT = (6, 14)


def generate_drills(seed: int) -> Iterator[str]:
    """Yield an endless, seeded stream of drill documents, each a paragraph of 6 to 14 true statements."""
    generator = random.Random(seed)
    while True:
        count = generator.randint(*_STATEMENTS_PER_DOCUMENT)
        yield " ".join(_statement(generator) for _ in range(count))


def _statement(generator: random.Random) -> str:
    a, b = generator.randint(1, 9), generator.randint(1, 9)
    return generator.choice(_FORMS).format(a=a, b=b, A=_WORDS[a], p=a * b)
