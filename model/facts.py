"""The 45 multiplication facts and where they stand in a text.

Grammar of what `inject` replaces (anything else is left as it is):

    match    = left, expression, [ " "? "=" " "? product ], right
    expression = digit, operator, digit
    digit    = "1" … "9"                       a whole number of one digit
    operator = " "? ("*" | "×" | "·") " "?  |  " x "
    product  = a whole number
    left     = start of text or white space, then any of ( " ' “ ‘
    right    = any of . , ; : ! ? ) " ' ” ’, then white space or end of text

The neighbours of a match on the same line must not be operators, so that `3 * 4 * 5` and `2 + 3 * 4` stay text. After a
bare expression with `x` no word may follow on the line: `a 2 x 4 lumber` is no product. A match whose product is wrong
stays text as a whole: the model is never shown a false fact as a token.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class MulFact:
    """The fact a × b, with 1 ≤ a ≤ b ≤ 9."""

    a: int
    b: int

    @property
    def product(self) -> int:
        return self.a * self.b

    @property
    def token(self) -> str:
        return f"<MUL_{self.a}_{self.b}_{self.product}>"

    def __str__(self) -> str:
        return f"{self.a} × {self.b} = {self.product}"


MUL_FACTS = tuple(MulFact(a, b) for a in range(1, 10) for b in range(a, 10))

_OPERATORS = "*×·x+-−–/÷^=<>%"
_PATTERN = re.compile(
    r"""(?:(?<=\s)|(?<![\s\S]))        # white space or the start of the text
        [("'“‘]*
        (?P<fact>
            (?P<a>[1-9]) (?:[ ]?[*×·][ ]?|[ ]x[ ]) (?P<b>[1-9])
            (?:[ ]?=[ ]?(?P<product>[0-9]+))?
        )
        (?=[.,;:!?)"'”’]*(?:\s|$(?![\s\S])))""",
    re.VERBOSE,
)
_MARKS = ("*", "×", "·", " x ")


def inject(text: str) -> list[str | MulFact]:
    """Split `text` at its multiplication facts: strings and facts alternate in reading order, no string is empty.

    Joining the strings with the original expressions gives `text` back; `str(fact)` is the canonical form.
    """
    if not any(mark in text for mark in _MARKS):
        return [text] if text else []
    segments: list[str | MulFact] = []
    end = 0
    for match in _PATTERN.finditer(text):
        fact = _fact(match)
        if fact is None or _inside_larger_expression(text, match):
            continue
        if match.start("fact") > end:
            segments.append(text[end : match.start("fact")])
        segments.append(fact)
        end = match.end("fact")
    if end < len(text):
        segments.append(text[end:])
    return segments


def _fact(match: re.Match) -> MulFact | None:
    a, b = sorted((int(match["a"]), int(match["b"])))
    fact = MulFact(a, b)
    # Compared as text: "= 054" is not how anybody writes 54, and a huge number never becomes an int.
    right = match["product"] is None or match["product"] == str(fact.product)
    return fact if right else None


def _inside_larger_expression(text: str, match: re.Match) -> bool:
    before, after = match.start("fact") - 1, match.end("fact")
    while before >= 0 and text[before] in " \t":
        before -= 1
    while after < len(text) and text[after] in " \t":
        after += 1
    word_follows = after < len(text) and text[after].isalpha()
    if word_follows and match["product"] is None and " x " in match["fact"]:
        return True
    return (before >= 0 and text[before] in _OPERATORS) or (after < len(text) and text[after] in _OPERATORS)
