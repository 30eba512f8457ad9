"""Read the final answer of a solution in GSM8K's style (Cobbe et al. 2021): `… #### 18`.

Two rules read it, those of lm-evaluation-harness's gsm8k (0.4.13):

- `strict`: the number right after the first `#### ` that is followed by a number. A hyphen may
  precede the number, a `$` may not.
- `flexible`: the last number in the text.

How numbers are read:

    1,006  $5  18.        1006, 5, 18: any `,` or `$` and a full stop at the end are dropped
    -$5  $-5  5-10        -5, -5, then 5 and -10: a hyphen right before a number is its sign
    50%  18 km            50, 18: a percent sign or a unit is not part of a number
    3/4  1 1/2            0.75, 1.5: a fraction or a mixed number is one number
    1.2.3  1/2/3  1/0     no answer: several points or slashes, division by zero, over 30 digits

An answer is right if it has the exact value of the reference. lm-evaluation-harness compares
spellings instead and may decide differently for:

- other digits of the same value: `18.00`, `018`, and the end of `1 000`, which the flexible rule
  reads as 0
- a fraction or a mixed number, of which it takes one part: `36/2` is 18 here, and 36 or 2 there,
  depending on the rule
- a minus sign −, which it ignores: its flexible rule reads `−5` as 5
- full stops or `$` in a row or alone at the end (`18...`, `18 ...`), which its flexible rule takes
  for the last number

The flexible rule would read a fact token's name, `<MUL_6_9_54>`, as 54. This module therefore reads
no names of tokens. A reserved token becomes a line break. A fact token is read in two ways:

- `text`: it becomes a line break and gives no number.
- `stated`: it becomes its statement, `6 × 9 = 54`, on a line of its own. Right after `#### ` it is
  54.
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

# Digits of a number.
_LONGEST_NUMBER = 30
_MARK = f"{MARK} "
_DECIMAL = re.compile(r"[0-9]++(?:\.[0-9]++)?|\.[0-9]++")
# The lookahead only finds the place: `_numbers` reads the number from there.
_STRICT = re.compile(rf"{_MARK}(?=-?[.,]*[0-9])")
# In "1 1/2" the groups are number 1, over 1, under /2; in "3/4" number 3, under /4. Possessive
# quantifiers (++) never backtrack, so that every text takes linear time.
_NUMBER = re.compile(
    r"(?P<sign>[-−]?)(?P<number>[$0-9.,]++)(?:(?<=[0-9])(?: "
    r"(?P<over>[0-9]++)(?=/))?(?P<under>(?>(?:/[0-9][0-9.,]*+)+)))?"
)


class Reading(NamedTuple):
    """The reference's answer, and the answer that each rule finds; None for no answer."""

    gold: Fraction
    strict: Fraction | None
    flexible: Fraction | None
    strict_stated: Fraction | None
    flexible_stated: Fraction | None

    def is_right(self, rule: str) -> bool:
        """Return True if `rule`, one of RULES, finds the reference's value."""
        found: Fraction | None = getattr(self, rule)
        return found == self.gold


def strict_answer(text: str) -> Fraction | None:
    """Return the number right after the first `#### ` that is followed by one, or None."""
    mark = _STRICT.search(text)
    return next(_numbers(text, mark.end())) if mark else None


def flexible_answer(text: str) -> Fraction | None:
    """Return the last number in `text`, or None."""
    return [None, *_numbers(text)][-1]


def as_text(segments: list[str | MulFact | None]) -> str:
    """Return the text of a generation, with a line break for each fact or reserved token."""
    return "".join(segment if isinstance(segment, str) else "\n" for segment in segments)


def as_stated(segments: list[str | MulFact | None]) -> str:
    """Return the text of a generation, with each fact stated on a line of its own.

    Right after `#### ` a fact becomes its product. Reserved tokens become line breaks.
    """
    text = ""
    for segment in segments:
        if isinstance(segment, MulFact):
            text += f"{segment.product}\n" if text.endswith(_MARK) else f"\n{segment}\n"
        else:
            text += "\n" if segment is None else segment
    return text


def read(generation: Generation) -> Reading:
    """Apply every rule; raise ValueError if the reference solution has no answer."""
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

    Intervals account for clusters, since a model that solves one problem of a cluster probably
    solves the others. A problem that is too long counts as wrong; lm-evaluation-harness would cut
    off its beginning. The counts are:

        stopped, cut, too_long    how generations ended (model/post_training/answer_files.py)
        most_new_tokens           the limit of an answer's length, in tokens
        facts                     generations with at least one fact token
        no_answer                 by rule, problems that were asked and got no number
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
    # All generations have one limit; unpacking raises ValueError otherwise.
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
    """Yield the numbers from place `start` on, and None for a match such as 1.2.3."""
    for match in _NUMBER.finditer(text, start):
        if re.search("[0-9]", match["number"]):
            try:
                yield from _values(match)
            except (ValueError, ZeroDivisionError):
                yield None


def _values(match: re.Match[str]) -> list[Fraction]:
    """Return the one or two numbers of a match.

    Raises ValueError or ZeroDivisionError for a match such as 1.2.3 or 1/0.
    """
    # "-" and "−" both; the sign of "$-5" is found because a match may begin after the "$".
    sign = -1 if match["sign"] else 1
    number = _decimal(match["number"])
    if match["under"] is None:
        return [sign * number]
    under = _decimal(match["under"].removeprefix("/"))
    if match["over"] is None:
        return [sign * number / under]
    fraction = _decimal(match["over"]) / under
    # A mixed number is a whole number and a fraction below 1: `12 48/2` is 12, then 24.
    return (
        [sign * (number + fraction)]
        if number.denominator == 1 and fraction < 1
        else [sign * number, fraction]
    )


def _decimal(digits: str) -> Fraction:
    """Return `digits` as an exact number; raise ValueError if they are not one number."""
    digits = re.sub("[$,]", "", digits).rstrip(".")
    if not _DECIMAL.fullmatch(digits) or len(digits.replace(".", "")) > _LONGEST_NUMBER:
        raise ValueError(digits)
    return Fraction(digits)
