"""Arithmetic probes: what is 6 × 9, in every form of the drills whose answer comes last, and how answers are read.

Each question is asked twice: `plain`, as text, and `injected`, as a training document of the condition would have it, where
an expression before the product is its fact's token. Where the two are the same, in the baseline always, they count twice.
"""

import itertools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from model.drills import FORMS, GROUPS, group_of, in_words, state
from model.errors import PipelineError
from model.facts import MUL_FACTS, MulFact, inject
from model.files import read_jsonl
from model.stats import rate

_NUMBERS = {in_words(number): number for number in range(100)}
# An equation is answered by what it comes to, not by its first factor.
_EQUATION = re.compile(r"\s*[0-9]+ ?[×*·x] ?[0-9]+ ?=")
# Whole numbers: no part of 54.5, of -54, of 1,006 or of a word. A longer word goes first: fifty-four is not fifty.
_WHOLE_NUMBER = re.compile(
    rf"(?<![\w−-])(?<!\d[.,])(?:[0-9]+|{'|'.join(sorted(_NUMBERS, key=len, reverse=True))})(?![.,]?\d|-?\w)", re.IGNORECASE
)


class Question(NamedTuple):
    a: int
    b: int
    form: str
    group: str
    prompt: str


class Answer(NamedTuple):
    """A question as asked, and what came: the number that the text answers, and the product of the first fact token.

    Either is None where there is none; `generated` is all of it, facts by the names of their tokens.
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
    """Return all 81 products in all forms that ask for them, each with names and things of its own, always the same."""
    asked = []
    for form in FORMS:
        for a, b in itertools.product(range(1, 10), repeat=2):
            if form.asks:
                prompt = state(form, a, b, random.Random(f"{form.name}/{a}/{b}")).prompt
                asked.append(Question(a, b, form.name, group_of(a, b, form), prompt))
    return asked


class ProbeTokenizer:
    """An export's tokenizer, with the ids of the facts if it has them."""

    def __init__(self, tokenizer: Tokenizer, document_start: int):
        """`document_start` is the id that every training document begins with."""
        ids = {fact: tokenizer.token_to_id(fact.token) for fact in MUL_FACTS}
        self._ids = {fact: token for fact, token in ids.items() if token is not None}
        if self._ids and len(self._ids) != len(ids):
            raise PipelineError(f"tokenizer.json: has tokens for {len(self._ids)} of {len(ids)} facts; run dvc repro export")
        self._facts = {token: fact for fact, token in self._ids.items()}
        self._tokenizer, self._document_start = tokenizer, document_start

    def encode(self, prompt: str, injected: bool) -> list[int]:
        """Return the ids of a document's start; `injected` changes nothing without ids of facts."""
        tokens = [self._document_start]
        for segment in inject(prompt) if injected and self._ids else [prompt]:
            if isinstance(segment, MulFact):
                tokens.append(self._ids[segment])
            else:
                tokens += self._tokenizer.encode(segment, add_special_tokens=False).ids
        return tokens

    def read(self, tokens: list[int]) -> tuple[int | None, int | None, str]:
        """Return the answer in text, the answer as a fact's token, and the text of all `tokens`."""
        facts = [self._facts[token] for token in tokens if token in self._facts]
        runs = [list(run) for is_fact, run in itertools.groupby(tokens, key=self._facts.__contains__) if not is_fact]
        # A fact between two runs parts them: what stands on either side of it is not one number.
        text = "\n".join(self._decode(run) for run in runs)
        return number_answered(text), facts[0].product if facts else None, self._decode(tokens)

    def _decode(self, tokens: list[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=False)


def number_answered(text: str) -> int | None:
    """Return the first whole number in `text`, in digits or, up to ninety-nine, in English words.

    Where the text begins with an equation, the first after its equals sign.
    """
    equation = _EQUATION.match(text)
    match = _WHOLE_NUMBER.search(text, equation.end() if equation else 0)
    if match is None:
        return None
    # A number too long for int() is nobody's product.
    return int(match[0]) if match[0].isdecimal() and len(match[0]) < 20 else _NUMBERS.get(match[0].lower())


def ask(
    asked: list[Question], tokenizer: ProbeTokenizer, continue_all: Callable[[list[list[int]]], list[list[int]]]
) -> list[Answer]:
    """Return the answers to `asked`, plain and injected; `continue_all` maps prompts to continuations, in ids.

    Equal prompts are continued once.
    """
    pairs = [(question, injected) for injected in (False, True) for question in asked]
    prompts = [tuple(tokenizer.encode(question.prompt, injected)) for question, injected in pairs]
    distinct = list(dict.fromkeys(prompts))
    continuations = dict(zip(distinct, continue_all([list(prompt) for prompt in distinct]), strict=True))
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
        raise PipelineError(f"{path}: not the probes stage's answers ({error})") from None


def summarize(answers: list[Answer]) -> dict:
    """Return the rates of right answers by way of asking, group of drills.py, and way of answering.

    a × b and b × a in all forms are one cluster: who knows a product in one form is likely to know it in another.
    """
    metrics: dict = {}
    for asked in ("plain", "injected"):
        metrics[asked] = {}
        for group in GROUPS:
            mine = [answer for answer in answers if answer.group == group and answer.injected == (asked == "injected")]
            products = np.array([answer.a * answer.b for answer in mine])
            facts = [str(MulFact(*sorted((answer.a, answer.b)))) for answer in mine]
            metrics[asked][group] = {
                way: rate(np.array([getattr(answer, f"{way}_answer") or 0 for answer in mine]) == products, facts)._asdict()
                for way in ("text", "fact_token")
            }
    return metrics
