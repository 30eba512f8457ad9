"""Arithmetic probes: ask for every product in every form of the drills that ends with the answer.

Each question is asked in two ways. `plain` encodes it as text. `injected` encodes it as a training
document of the condition: `6 × 9` becomes the fact token `<MUL_6_9_54>`. In the baseline, which has
no fact tokens, the two are always equal; both are counted.
"""

import itertools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import PipelineError, printable
from common.files import read_jsonl
from model.data.drills import FORMS, GROUPS, group_of, in_words, state
from model.statistics.rates import rate
from model.text.characters import settled
from model.tokens.export_tokenizer import FactTokenizer
from model.tokens.facts import MulFact

# "zero" to "ninety-nine" and their values.
_NUMBERS = {in_words(number): number for number in range(100)}
# An answer that begins "6 × 9 = 54" answers 54, not 6.
_EQUATION = re.compile(r"\s*[0-9]+ ?[×*·x] ?[0-9]+ ?=")
# Whole numbers, but no part of 54.5, of -54, of 1,006 or of a word. Longer words come first, so
# that "fifty-four" is not read as "fifty".
_WORDS = "|".join(sorted(_NUMBERS, key=len, reverse=True))
_WHOLE_NUMBER = re.compile(
    rf"(?<![\w−-])(?<!\d[.,])(?:[0-9]+|{_WORDS})(?![.,]?\d|-?\w)",
    re.IGNORECASE,
)


class Question(NamedTuple):
    """The product a × b asked in one form; `group` says whether training has drilled it."""

    a: int
    b: int
    form: str
    group: str
    prompt: str


class Answer(NamedTuple):
    """A question in one of the two ways of asking, and what the model answered."""

    a: int
    b: int
    form: str
    group: str
    injected: bool
    prompt: str
    # The first number in the text, and the product of the first fact token. None if there is none.
    text_answer: int | None
    fact_token_answer: int | None
    # The whole continuation, with fact tokens by name.
    generated: str


def questions() -> list[Question]:
    """Return all 81 products in all forms that ask for them; the questions are always the same."""
    asked = []
    for form in FORMS:
        for a, b in itertools.product(range(1, 10), repeat=2):
            if form.asks:
                # A seed for each question: names and things in its text never vary.
                prompt = state(form, a, b, random.Random(f"{form.name}/{a}/{b}")).prompt
                asked.append(Question(a, b, form.name, group_of(a, b, form), prompt))
    return asked


class ProbeTokenizer:
    """Encodes a question to ids, and reads both answers from the ids of a continuation."""

    def __init__(self, tokenizer: FactTokenizer):
        self._tokenizer = tokenizer

    def encode(self, prompt: str, injected: bool) -> list[int]:
        """Return the ids of a document that begins with `prompt`.

        `injected` changes nothing if the tokenizer has no fact tokens.
        """
        return [self._tokenizer.end_of_text, *self._tokenizer.encode(prompt, injected)]

    def read(self, tokens: list[int]) -> tuple[int | None, int | None, str]:
        """Return the number in the text, the first fact token's product, and the decoded text."""
        segments = self._tokenizer.segments(tokens)
        facts = [segment for segment in segments if isinstance(segment, MulFact)]
        # A line break in place of each fact token, so that "5<MUL_6_9_54>4" is not read as 54.
        text = "\n".join(segment for segment in segments if isinstance(segment, str))
        return (
            number_answered(text),
            facts[0].product if facts else None,
            self._tokenizer.decode(tokens),
        )


def number_answered(text: str) -> int | None:
    """Return the first whole number in `text`, or None.

    A number is in digits or, up to ninety-nine, in English words. If the text begins with an
    equation, the search begins after its equals sign.
    """
    text = settled(text)
    equation = _EQUATION.match(text)
    match = _WHOLE_NUMBER.search(text, equation.end() if equation else 0)
    if match is None:
        return None
    # Python refuses to convert very long numbers, and no product has 20 digits.
    return (
        int(match[0])
        if match[0].isdecimal() and len(match[0]) < 20
        else _NUMBERS.get(match[0].lower())
    )


def ask(
    asked: list[Question],
    tokenizer: ProbeTokenizer,
    continue_all: Callable[[list[list[int]]], list[list[int]]],
) -> list[Answer]:
    """Return the answers to all questions asked plain, then to all asked injected.

    `continue_all` maps prompts to continuations, both as ids. Equal prompts are continued once.
    """
    pairs = [(question, injected) for injected in (False, True) for question in asked]
    prompts = [tuple(tokenizer.encode(question.prompt, injected)) for question, injected in pairs]
    distinct = list(dict.fromkeys(prompts))
    continuations = dict(
        zip(distinct, continue_all([list(prompt) for prompt in distinct]), strict=True)
    )
    answers = []
    for (question, injected), prompt in zip(pairs, prompts, strict=True):
        text, fact_token, generated = tokenizer.read(continuations[prompt])
        a, b, form, group, words = question
        answers.append(Answer(a, b, form, group, injected, words, text, fact_token, generated))
    return answers


def read_answers(path: Path) -> list[Answer]:
    """Return the answers from the probes stage's file; raise PipelineError for other fields."""
    try:
        return [Answer(**row) for row in read_jsonl(path)]
    except TypeError as error:
        raise PipelineError(
            f"{path}: not the probes stage's answers ({printable(str(error))})"
        ) from None


def summarize(answers: list[Answer]) -> dict[str, Any]:
    """Return rates of right answers by way of asking, group of products, and way of answering.

    Groups are those of model/data/drills.py. a × b and b × a in all forms are one cluster, since a
    model that knows a product in one form probably knows it in another.
    """
    metrics: dict[str, Any] = {}
    for asked in ("plain", "injected"):
        metrics[asked] = {}
        for group in GROUPS:
            mine = [
                answer
                for answer in answers
                if answer.group == group and answer.injected == (asked == "injected")
            ]
            # (questions of the group,)
            products = np.array([answer.a * answer.b for answer in mine])
            facts = [str(MulFact(*sorted((answer.a, answer.b)))) for answer in mine]
            metrics[asked][group] = {
                way: rate(
                    # 0 for no answer: no product of 1 … 9 is 0.
                    np.array([getattr(answer, f"{way}_answer") or 0 for answer in mine])
                    == products,
                    facts,
                )._asdict()
                for way in ("text", "fact_token")
            }
    return metrics
