"""Read the number at the end of a reference solution in GSM8K's style, for `fetch` and `gsm8k`."""

import re
from fractions import Fraction

MARK = "####"
# Digits, as many as model/post_training/answer_reading.py reads.
_LONGEST_NUMBER = 30
# 7, 1,234.50, .5, 3/4 or 1 1/2, with or without a full stop after it. A comma needs three digits on
# its right, since 1,5 may mean 1.5.
_REFERENCE = re.compile(
    r" (?P<sign>-?)"
    r"(?:(?P<number>(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"|(?:(?P<whole>[0-9]+) )?(?P<over>[0-9]+)/(?P<under>[0-9]+))\.?"
)


def read_gold(answer: str) -> Fraction:
    """Return the number after a solution's only `####`; raise ValueError for any other ending.

    `48 / 2 = 24\\n#### 24` gives 24, `#### 1,234.5` gives 2469/2, and `#### -1 1/2` gives -3/2.
    Both rules of model/post_training/answer_reading.py read the same number from every accepted
    spelling. Other spellings (`$7`, `7%`, `7 plums`, `**7**`, `####7`) are errors, since reading
    them would be a guess.
    """
    _, *ends = answer.split(MARK)
    # Two marks leave open which number is the answer.
    if len(ends) != 1:
        raise ValueError(f"has {MARK} {len(ends)} times; it must end in one line `{MARK} NUMBER`")
    match = _REFERENCE.fullmatch(ends[0].rstrip())
    if match is None or sum(each.isdigit() for each in match[0]) > _LONGEST_NUMBER:
        found = f"has {ends[0][:40]!r} after {MARK}"
        raise ValueError(f"{found}; write a space and one number alone, such as `{MARK} 1,234.5`")
    sign = -1 if match["sign"] else 1
    if match["number"]:
        return sign * Fraction(match["number"].replace(",", ""))
    if int(match["under"]) == 0:
        raise ValueError(f"has {match[0]!r} after {MARK}, a division by zero; write a number")
    fraction = Fraction(int(match["over"]), int(match["under"]))
    # `1 3/2` may be 2 1/2 or two numbers.
    if match["whole"] and fraction >= 1:
        raise ValueError(f"has {match[0]!r} after {MARK}, which is two numbers; write one")
    return sign * (int(match["whole"] or 0) + fraction)
