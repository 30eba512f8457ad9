"""Arithmetic probes: ask 6 × 9 in every form of the drills whose answer comes last.

Each question is asked twice: `plain`, as text, and `injected`, encoded as a training document of
the condition, where an expression before the product is its fact's token. If both are the same, as
always in the baseline, they count twice.
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

_NUMBERS = {in_words(number): number for number in range(100)}
# An equation is answered by what it comes to, not by its first factor.
_EQUATION = re.compile(r"\s*[0-9]+ ?[×*·x] ?[0-9]+ ?=")
# Whole numbers that are not part of 54.5, of -54, of 1,006 or of a word. Longer words come first:
# fifty-four is not fifty.
_WORDS = "|".join(sorted(_NUMBERS, key=len, reverse=True))
_WHOLE_NUMBER = re.compile(
    rf"(?<![\w−-])(?<!\d[.,])(?:[0-9]+|{_WORDS})(?![.,]?\d|-?\w)",
    re.IGNORECASE,
)


class Question(NamedTuple):
    a: int
    b: int
    form: str
    group: str
    prompt: str


class Answer(NamedTuple):
    """A question as asked, and its answer: the text's number and the first fact token's product.

    Either is None if there is none. `generated` is the whole continuation, with facts as token
    names.
    """

    a: int
    b: int
    form: str
    group: str
    injected: bool
    prompt: str
    text_answer: int | None
    fact_token_answer: int | None
    generated: str


def questions() -> list[Question]:
    """Return all 81 products in all forms that ask for them; names and things never vary."""
    asked = []
    for form in FORMS:
        for a, b in itertools.product(range(1, 10), repeat=2):
            if form.asks:
                prompt = state(form, a, b, random.Random(f"{form.name}/{a}/{b}")).prompt
                asked.append(Question(a, b, form.name, group_of(a, b, form), prompt))
    return asked


class ProbeTokenizer:
    """What makes ids of a question, and the two answers of ids."""

    def __init__(self, tokenizer: FactTokenizer):
        self._tokenizer = tokenizer

    def encode(self, prompt: str, injected: bool) -> list[int]:
        """Return the ids of a document's start; `injected` changes nothing without ids of facts."""
        return [self._tokenizer.end_of_text, *self._tokenizer.encode(prompt, injected)]

    def read(self, tokens: list[int]) -> tuple[int | None, int | None, str]:
        """Return the answer in text, the answer as a fact's token, and the text of all `tokens`."""
        segments = self._tokenizer.segments(tokens)
        facts = [segment for segment in segments if isinstance(segment, MulFact)]
        # What is no text parts two runs: what stands on either side of it is not one number.
        text = "\n".join(segment for segment in segments if isinstance(segment, str))
        return (
            number_answered(text),
            facts[0].product if facts else None,
            self._tokenizer.decode(tokens),
        )


def number_answered(text: str) -> int | None:
    """Return the first whole number in `text`, in digits or, up to ninety-nine, in English words.

    Where the text begins with an equation, the first after its equals sign.
    """
    text = settled(text)
    equation = _EQUATION.match(text)
    match = _WHOLE_NUMBER.search(text, equation.end() if equation else 0)
    if match is None:
        return None
    # A number too long for int() is nobody's product.
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
    """Return the answers to `asked`, plain and injected.

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
    """Return the answers as the probes stage keeps them, a line for each."""
    try:
        return [Answer(**row) for row in read_jsonl(path)]
    except TypeError as error:
        raise PipelineError(
            f"{path}: not the probes stage's answers ({printable(str(error))})"
        ) from None


def summarize(answers: list[Answer]) -> dict[str, Any]:
    """Return the rates of right answers by way of asking, group of drills.py, and way of answering.

    a × b and b × a in all forms are one cluster, since a model that knows a product in one form
    probably knows it in another.
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
            products = np.array([answer.a * answer.b for answer in mine])
            facts = [str(MulFact(*sorted((answer.a, answer.b)))) for answer in mine]
            metrics[asked][group] = {
                way: rate(
                    np.array([getattr(answer, f"{way}_answer") or 0 for answer in mine])
                    == products,
                    facts,
                )._asdict()
                for way in ("text", "fact_token")
            }
    return metrics
