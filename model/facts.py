"""The 45 multiplication facts and where they stand in a text.

An expression left as text costs nothing; a text corrupted by a fact is what this module must prevent. Where in doubt, it is
text. Grammar of an expression, which the counts call found:

    found    = left, digit, operator, digit, [ space? "=" space? whole number ], right
    digit    = "1" … "9"                                a whole number of one digit
    operator = "*" | space "*" space | space? ("×" | "·") space? | space "x" space
    space    = one space, or a no-break, narrow no-break or thin one
    left     = start of text or white space, then any of ( " ' “ ‘
    right    = any of . , ; : ! ? ) " ' ” ’, then white space or end of text

An expression becomes a fact, which the counts call changed, if all of this holds:

- Its result, if it has one, is the product; a wrong one makes all of it text.
- Its line has no mark of code or LaTeX (`_is_code`), and it is in no fence, display formula or HTML code (`_CODE_BLOCK`).
- Before and after it on the line, past blanks, quotes and brackets, comes nothing, a word or `_PUNCTUATION`: no digit, operator
  or symbol (`2 + (3 * 4)`, `1 006 * 9`). The word continues no formula (`plus`, any letter alone but a, A and I), and before
  it is none of code (`return`).
- Without a result it may be the size of something. The word after it must then be one that can follow a number (`_FOLLOWING`:
  `is`, `and`; not `cm`, `matrix`), and the word before it no determiner (`a 4 x 4`), nor one that is numbered (`page 3 · 4`).
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple


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
# By operands and result as written: "= 054" is not how anybody writes 54, and a huge number never becomes an int.
_FACTS = {
    (str(a), str(b), result): MulFact(min(a, b), max(a, b))
    for a in range(1, 10)
    for b in range(1, 10)
    for result in (None, str(a * b))
}

_OPERATORS = {"*": "asterisk", "×": "times", "·": "dot", "x": "letter_x"}
EXPRESSION_FORMS = tuple(name + suffix for name in _OPERATORS.values() for suffix in ("", "_result"))

_SPACES = " \u00a0\u2009\u202f"
_MARKS = ("*", "×", "·", *(space + "x" for space in _SPACES))
# Starts at a digit and looks behind only then: what has no candidate is passed over at the speed of a scan.
_CANDIDATE = re.compile(
    r"""(?P<a>[1-9]) (?<! [^\s("'“‘] [1-9])
        (?: S (?P<spaced>[*x]) S | (?P<tight>\*) | S? (?P<free>[×·]) S? )
        (?P<b>[1-9])
        (?: S? = S? (?P<product> [0-9]++) )?+
        (?= [.,;:!?)"'”’]*+ (?:\s|\Z) )""".replace("S", f"[{_SPACES}]"),
    re.VERBOSE,
)
_OPENING = "(\"'“‘"
_OPENING_AND_BLANKS = _OPENING + "".join(filter(str.isspace, map(chr, range(0x3001)))).replace("\n", "")
_LAST_WORD = re.compile(r"(?:(?:[^\W\d_]|['’])+|.)?\Z")
_NEXT_WORD = re.compile(r"""(?:[^\S\n]|[)"'”’])*+([^\W\d_]{1,20}|.|)""")
_PUNCTUATION = frozenset(("", *".,;:!?)”’—…•"))

_CODE_BLOCK = re.compile(
    r"""^[ \t>]*(```|~~~)[^`\n]*$.*?(?:^[ \t>]*\1|\Z)           # Markdown's fences
      | ^[ \t]*\$\$.*?(?:\$\$|\Z) | \\\[.*?(?:\\\]|\Z) | \\begin\{.*?(?:\\end\{|\Z)
      | <(pre|code|script|style)\b.*?(?:</\2|\Z)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_CODE_BLOCK_MARKS = ("```", "~~~", "$$", "\\[", "\\begin{", "<")  # each block has one; a scan tells most texts have none
_CODE_WORDS = "return|print|echo|yield|assert|case|lambda|let|var|const|expr|int|float|double|select|SELECT"
_CODE_LINE_START = re.compile(rf"\s{{4}}|\s*\t|\s*(?:{_CODE_WORDS})\b")
_CODE_MARK = re.compile(
    r"[`\\{}\[\]$#_&|<>@~^/(;S] (?: (?<=[`\\{}\[\]$#_&|<>@~^]) | (?<=/)[/*] | (?<=\w\() | (?<=;)\s*$ | (?<=\bS)ELECT\b )",
    re.VERBOSE,
)
_CODE_WORD = re.compile(_CODE_WORDS)
_FORMULA_WORD = re.compile(
    r"(?i:plus|minus|times|over|by|divided|multiplied|mod|point|squared|cubed|percent|hundred|thousand|million)|[^\W\d_aAI]"
)
_NOT_BEFORE_BARE = re.compile(
    "a|an|the|this|these|those|each|every|any|no|some|his|her|its|my|our|their|your|"
    "pages?|chapter|section|figure|table|part|season|episode|version|volume|day|grade|level|number|"
    "(?:jan|feb)(?:uary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|(?:nov|dec)(?:ember)?",
    re.IGNORECASE,
)
_FOLLOWING = re.compile(
    "is|are|was|were|equals?|gives?|makes?|yields?|means?|and|or|but|so|then|if|because|when|since|that|which|as|now|again",
    re.IGNORECASE,
)


class FoundFact(NamedTuple):
    """A fact, and the stretch of the text that states it."""

    start: int
    end: int
    fact: MulFact


def inject(text: str, counts: Counter | None = None) -> list[str | MulFact]:
    """Split `text` at its multiplication facts: strings and facts alternate in reading order, no string is empty.

    Joining the strings with the original expressions gives `text` back; `str(fact)` is the canonical form. `counts` is
    added to as by `find_facts`.
    """
    segments: list[str | MulFact] = []
    place = 0
    for start, end, fact in find_facts(text, counts):
        segments += [text[place:start], fact]
        place = end
    return [segment for segment in [*segments, text[place:]] if segment]


def find_facts(text: str, counts: Counter | None = None) -> list[FoundFact]:
    """Return the facts that `text` states, in order.

    `counts` is added to under (form, "found") and (form, "changed"), for the forms of `EXPRESSION_FORMS`.
    """
    expressions = _expressions(text)
    lines = text
    if expressions and any(mark in text for mark in _CODE_BLOCK_MARKS):
        # A block of code becomes one line of marks of code, in place.
        lines = _CODE_BLOCK.sub(lambda block: "`" * len(block[0]), text)
    facts: list[FoundFact] = []
    line_end = 0
    for match in expressions:
        if match.start() >= line_end:  # each line is read once, however many expressions it has
            line_start = previous = lines.rfind("\n", 0, match.start()) + 1
            line_end = lines.find("\n", match.end()) % (len(lines) + 1)  # -1 is the end of the text
            is_code = _is_code(lines[line_start:line_end])
        fact = None if is_code else _FACTS.get(match.group("a", "b", "product"))
        changed = fact is not None and _stands_in_prose(text, previous, match)
        previous = match.end() - 1
        if counts is not None:
            form = _OPERATORS[match["spaced"] or match["tight"] or match["free"]] + ("_result" if match["product"] else "")
            counts[form, "found"] += 1
            counts[form, "changed"] += changed
        if changed:
            facts.append(FoundFact(match.start(), match.end(), fact))
    return facts


def _expressions(text: str) -> list[re.Match]:
    if not any(mark in text for mark in _MARKS):
        return []
    found = []
    for match in _CANDIDATE.finditer(text):
        left = match.start()
        while left > 0 and text[left - 1] in _OPENING:
            left -= 1
        if left == 0 or text[left - 1].isspace():
            found.append(match)
    return found


def _is_code(line: str) -> bool:
    return _CODE_LINE_START.match(line) is not None or _CODE_MARK.search(line) is not None


def _stands_in_prose(text: str, previous: int, match: re.Match) -> bool:
    """Judge by the words or marks beside `match`; `previous` is the line's start or the last digit found before."""
    before = _LAST_WORD.search(text[previous : match.start()].rstrip(_OPENING_AND_BLANKS)[-20:])[0]
    return _may_stand_between(before, _NEXT_WORD.match(text, match.end())[1], match["product"] is None)


@lru_cache(maxsize=4096)
def _may_stand_between(before: str, after: str, is_bare: bool) -> bool:
    for beside in (before, after):
        if beside not in _PUNCTUATION and (not beside[0].isalpha() or _FORMULA_WORD.fullmatch(beside)):
            return False
    if _CODE_WORD.fullmatch(before):
        return False
    if not is_bare:
        return True
    return not _NOT_BEFORE_BARE.fullmatch(before) and (after in _PUNCTUATION or _FOLLOWING.fullmatch(after) is not None)
