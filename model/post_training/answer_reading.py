"""The final answer of a generated solution in the style of GSM8K (Cobbe et al. 2021), `… #### 18`, as an exact number.

Two rules, those of lm-evaluation-harness's gsm8k (0.4.13):

- `strict`: the number after the first `#### ` that has one right after it, with a hyphen or without, but no `$`.
- `flexible`: the last number in the text.

A number is digits with any `,` and `$` among them dropped, at most one point, no full stop at the end, and a sign before or
after the `$` (`-$5`, `$-5`); a hyphen right before it is its sign even in `5-10`. What follows it, `%` or a unit, is no part.
`3/4` is one number and so is `1 1/2`. Read as no number, which is never right: several points (1.2.3), several slashes (a
date), a division by zero, more than 30 digits. Where one of these is what a rule comes to, there is no answer.

Right is who has the reference's value; lm-evaluation-harness compares spellings, and may judge otherwise:

- other digits for the same value: `18.00`, `018`, and the end of `1 000`, which is 0 to the flexible rule;
- a fraction or a mixed number, of which it takes one part (`36/2` is 18 here; there it is 36 or 2 by rule);
- a minus sign −, which it does not see: to its flexible rule `−5` is 5;
- full stops or `$` in a row or alone at the end (`18...`, `18 ...`), which its flexible rule takes for the last number.

A fact's token has a name, `<MUL_6_9_54>`, that its flexible rule would read as 54, and so has a reserved one. Here nothing reads
names; a reserved token is a break between two texts, and

- as `text`, a fact is a break between two texts and gives no number;
- as `stated`, it stands for its statement, `6 × 9 = 54`, with a break on either side; right after `#### `, for 54.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from model.data.reference_answers import MARK, read_gold
from model.post_training.answer_files import Generation
from model.statistics.rates import rate
from model.tokens.facts import MulFact

RULES = ("strict", "flexible", "strict_stated", "flexible_stated")

_LONGEST_NUMBER = 30  # digits
_MARK = f"{MARK} "
_DECIMAL = re.compile(r"[0-9]++(?:\.[0-9]++)?|\.[0-9]++")
_STRICT = re.compile(rf"{_MARK}(?=-?[.,]*[0-9])")
# Possessive, so that no text takes more than linear time.
_NUMBER = re.compile(
    r"(?P<sign>[-−]?)(?P<number>[$0-9.,]++)(?:(?<=[0-9])(?: (?P<over>[0-9]++)(?=/))?(?P<under>(?>(?:/[0-9][0-9.,]*+)+)))?"
)


class Reading(NamedTuple):
    """The answers that the rules find, None for no answer, and the reference's."""

    gold: Fraction
    strict: Fraction | None
    flexible: Fraction | None
    strict_stated: Fraction | None
    flexible_stated: Fraction | None

    def is_right(self, rule: str) -> bool:
        found: Fraction | None = getattr(self, rule)
        return found == self.gold


def strict_answer(text: str) -> Fraction | None:
    mark = _STRICT.search(text)
    return next(_numbers(text, mark.end())) if mark else None


def flexible_answer(text: str) -> Fraction | None:
    return [None, *_numbers(text)][-1]


def as_text(segments: list[str | MulFact | None]) -> str:
    """Return the text of a generation, where each token without text is a line break."""
    return "".join(segment if isinstance(segment, str) else "\n" for segment in segments)


def as_stated(segments: list[str | MulFact | None]) -> str:
    """Return the same with each fact a line with its statement, or after `#### ` its product."""
    text = ""
    for segment in segments:
        if isinstance(segment, MulFact):
            text += f"{segment.product}\n" if text.endswith(_MARK) else f"\n{segment}\n"
        else:
            text += "\n" if segment is None else segment
    return text


def read(generation: Generation) -> Reading:
    """Return what every rule reads; ValueError if the reference solution has no answer."""
    text, stated = as_text(generation.segments), as_stated(generation.segments)
    return Reading(
        read_gold(generation.answer),
        strict_answer(text),
        flexible_answer(text),
        strict_answer(stated),
        flexible_answer(stated),
    )


def summarize(generations: list[Generation], readings: list[Reading]) -> dict[str, Any]:
    """Return each rule's rate of right answers over all problems, and counts of generations.

    Intervals take problems of one cluster together: who can work one out can do the others. `most_new_tokens` is the
    greatest length of an answer. `no_answer` has, by rule, how many were asked and gave no number; `facts`, how many have a
    fact's token. A problem too long to be asked is wrong; lm-evaluation-harness asks what is left of it when its beginning is
    cut off.
    """
    clusters = [generation.cluster for generation in generations]
    metrics: dict[str, Any] = {
        rule: rate(np.array([reading.is_right(rule) for reading in readings]), clusters)._asdict()
        for rule in RULES
    }
    metrics |= {
        way: sum(generation.ended == way for generation in generations)
        for way in ("stopped", "cut", "too_long")
    }
    [metrics["most_new_tokens"]] = {generation.most_new_tokens for generation in generations}
    metrics["facts"] = sum(
        any(isinstance(segment, MulFact) for segment in each.segments) for each in generations
    )
    metrics["no_answer"] = {
        rule: sum(getattr(reading, rule) is None for reading in readings) - metrics["too_long"]
        for rule in RULES
    }
    return metrics


def _numbers(text: str, start: int = 0) -> Iterator[Fraction | None]:
    """Yield the numbers from place `start` on, None for what only looks like one."""
    for match in _NUMBER.finditer(text, start):
        if re.search("[0-9]", match["number"]):
            try:
                yield from _values(match)
            except (ValueError, ZeroDivisionError):
                yield None


def _values(match: re.Match[str]) -> list[Fraction]:
    sign = -1 if match["sign"] else 1
    number = _decimal(match["number"])
    if match["under"] is None:
        return [sign * number]
    under = _decimal(match["under"].removeprefix("/"))
    if match["over"] is None:
        return [sign * number / under]
    fraction = _decimal(match["over"]) / under
    # `12 48/2` is no mixed number but two.
    return (
        [sign * (number + fraction)]
        if number.denominator == 1 and fraction < 1
        else [sign * number, fraction]
    )


def _decimal(digits: str) -> Fraction:
    """Return the number; raises ValueError if it is none."""
    digits = re.sub("[$,]", "", digits).rstrip(".")
    if not _DECIMAL.fullmatch(digits) or len(digits.replace(".", "")) > _LONGEST_NUMBER:
        raise ValueError(digits)
    return Fraction(digits)
