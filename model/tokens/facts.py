"""The 45 multiplication facts, and which expressions in a text become one.

An expression that stays text costs nothing, but a fact in the wrong place corrupts the text. So an
expression stays text in case of doubt. Grammar of an expression, counted as found:

    found    = left, digit, operator, digit, [ space? "=" space? whole number ], right
    digit    = "1" … "9"                                a whole number of one digit
    operator = "*" | space "*" space | space? ("×" | "·") space? | space "x" space
    space    = one space, or a no-break, narrow no-break or thin one
    left     = start of text or white space, then any of ( " ' “ ‘
    right    = any of . , ; : ! ? ) " ' ” ’, then white space or end of text

An expression becomes a fact, counted as changed, if all of this holds:

- Its result, if it has one, is the product. With a wrong result, all of it stays text.
- Its line has no mark of code or LaTeX (`_CODE_MARK`), its text has no display formula, and it is
  not in a fence or in HTML code (`_CODE_BLOCK`).
- It is not part of a larger expression. No digit, symbol or word of formulas is beside it, past
  blanks, quotes and brackets (`2 + (3 * 4)`, `half of 3 * 4`, `3 * 4 : 2`), and no operator is
  beside it past one line break. With a result it may follow a bullet.
- Bare, without a result, it is not in a list of numbers and not before `!`. A quote after it,
  which may mean inches, has its opening quote before it. The word after it can follow a number
  (`_AFTER_BARE`: `is`, `and`; not `cm`). The word before it is not a determiner (`a 4 x 4`) and
  not a word that is numbered (`page 3 · 4`, `No. 3 · 4`).
- Bare and not with `*`, it may be a size or a score, so something must ask for its product: words
  before it (`_CUE`: `what is`, `54 is`), its product right after it (`3 x 4 is 12`), or, if it
  begins a line or sentence, `?` or a number in words after it. Or it has a line to itself.
"""

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from model.text.characters import settled


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
# Keys are operands and result as written: nobody writes 54 as "= 054", and a huge number never
# becomes an int.
_FACTS = {
    (str(a), str(b), result): MulFact(min(a, b), max(a, b))
    for a in range(1, 10)
    for b in range(1, 10)
    for result in (None, str(a * b))
}

_OPERATORS = {"*": "asterisk", "×": "times", "·": "dot", "x": "letter_x"}
EXPRESSION_FORMS = tuple(
    name + suffix for name in _OPERATORS.values() for suffix in ("", "_result")
)

_SPACES = " \u00a0\u2009\u202f"
_MARKS = ("*", "×", "·", *(space + "x" for space in _SPACES))
# The pattern starts with a digit and looks behind only there, so that texts without a candidate are
# scanned fast.
_CANDIDATE = re.compile(
    r"""(?P<a>[1-9]) (?<! [^\s("'“‘] [1-9])
        (?: S (?P<spaced>[*x]) S | (?P<tight>\*) | S? (?P<free>[×·]) S? )
        (?P<b>[1-9])
        # An atomic group, since (…)?+ kept a part of a failed match before Python 3.11.5.
        (?> (?: S? = S? (?P<product> [0-9]++) )? )
        (?= [.,;:!?)"'”’]*+ (?:\s|\Z) )""".replace("S", f"[{_SPACES}]"),
    re.VERBOSE,
)
_OPENING = "(\"'“‘"
_OPENING_AND_BLANKS = _OPENING + "".join(filter(str.isspace, map(chr, range(0x3001)))).replace(
    "\n", ""
)
_CLOSING_AND_BLANKS = re.compile(r"""(?>(?:[^\S\n]|[)"'”’])*)""")
_OPENED = {  # by a closing quote: what precedes it if it closes anything
    close: re.compile(rf"(?<![^\s{_OPENING}]){open}[^{open}{close}]*\Z")
    for open, close in ('""', "''", "“”", "‘’")
}
_BULLET = re.compile(r"\s*([-*•])\s+")

_CODE_BLOCK = re.compile(
    r"""\A(?=.*?(?:\$\$|\\\[|\\begin\{)).*  # all of a text that has a display formula
      | ^[ \t>]*(```|~~~)[^`\n]*$.*?(?:^[ \t>]*\1|\Z)
      | (?i:<(pre|code|script|style)\b.*?(?:</\2|\Z))""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
_CODE_BLOCK_MARKS = (
    "```",
    "~~~",
    "$$",
    "\\[",
    "\\begin{",
    "<",
)  # each block has one; a scan tells most texts have none
_CODE_WORDS = (
    "return|print|echo|yield|assert|case|lambda|let|var|const|expr|int|float|double|select|SELECT"
)
_CODE_LINE_START = re.compile(rf"\s{{4}}|\s*\t|\s*(?:{_CODE_WORDS})\b")
_CODE_MARK = re.compile(
    r"[`\\{}\[\]$#_&|<>@~^/(;S] (?: (?<=[`\\{}\[\]$#_&|<>@~^]) | (?<=/)[/*] | (?<=\w\() | "
    r"(?<=;)\s*$ | (?<=\bS)ELECT\b )",
    re.VERBOSE,
)

# `before` is the end of the text before an expression on its line, or of the line above and its
# line break. These patterns match it.
_WORD_START = r"(?<![^\W\d_])(?<![^\W\d_]['’])"
_OPERATION = r"[-+−–—*∗/÷×·⋅=≠≈≡≤≥±√∑∏∫^%]"
_FORMULA_WORD = (
    "(?i:plus|minus|times|over|by|divided|multiplied|mod|point|squared?|cubed?|percent|hundred|thousand|million|sqrt|root|log|ln"
    "|exp|sin|cos|tan|abs|max|min|sum|difference|quotient|power|factorial|negative|half|third|quarter|twice|thrice|double|triple)"
)
_LARGER_BEFORE = re.compile(
    rf"""(?: (?! [^\W\d_] | [.,;:!?”’—…•)] ) \S | (?<!^\w) (?<!^\w\w) \)  # not a)
      | \s: | \d\s*[—•] | %\s*of
      | {_WORD_START} (?: {_FORMULA_WORD} (?:\s+of)? | {_CODE_WORDS} | [^\W\d_aAI] )
      | (?: {_OPERATION} | {_WORD_START} (?:{_FORMULA_WORD}|x) ) \n )\Z""",
    re.VERBOSE,
)
_NOT_BEFORE_BARE = re.compile(
    rf"(?:\d\)?[,;]|{_WORD_START}(?:[^\W\d_]\.|(?:"
    "a|an|the|this|these|those|each|every|any|no|some|his|her|its|my|our|their|your|nos|pp?|pages?|ch|chapters?|sect?|sections?|"
    "figs?|figures?|tab|tables?|parts?|seasons?|ep|episodes?|vers?|versions?|vols?|volumes?|days?|grades?|levels?|num|numbers?|"
    "eqs?|ex|art|articles?|tracks?|scores?|rated|ratings?|sizes?|sets?|dimensions?|may|"
    r"(?:jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6})(?:[.:]|\n)?))\Z",
    re.IGNORECASE,
)
_CUE = re.compile(
    r"(?:(?<!\S)(?P<number>[0-9]+)\sis|(?<![\w'’-])(?:what(?:['’]s|\sis)|how\smuch\sis|comput(?:e|ing)|calculat(?:e|ing)|"
    r"evaluat(?:e|ing)|find|solv(?:e|ing)|work(?:s|ed|ing)?\sout|multiply(?:ing)?|counting|(?:value|product)\sof|answer\sto|"
    r"know(?:\sthat)?|expression|equation|problem):?)\Z",
    re.IGNORECASE,
)
# These match what follows an expression and `_CLOSING_AND_BLANKS`.
_NUMBER_WORD = (
    "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh)ty(?:-\w+)?)(?=[.,;:!?)]|\s*\Z)"
)
_LARGER_AFTER = re.compile(
    rf"(?![^\W\d_]|[.,;:!?—…•]|\({_NUMBER_WORD}).|(?:{_FORMULA_WORD}|[^\W\d_aAI])(?![^\W\d_])|(?<=\s):|[—•]\s*\d"
)
_OPERATION_BELOW = re.compile(rf"\n[^\S\n]*+({_OPERATION}|(?:{_FORMULA_WORD}|x)(?![^\W\d_]))")
_VERB = r"(?i:(?:is|are|was|were|equals?|gives?|makes?|yields?|means?)(?!\w))"
_JOINING = r"(?i:(?:or|but|if|because|when|since|that|which|as|again)(?!\w))"
_AFTER_BARE = re.compile(
    rf"(?![,;][^\S\n]*+[-+−(]*\d)[.,;:?—…•\n]|\Z|{_VERB}|{_JOINING}|(?i:and|so|then|now)(?!\w)"
)
_AFTER_CUE = re.compile(r"[.,;:?\n]|\Z|(?i:and|so|then|now)(?!\w)")
_ANSWER = re.compile(rf"{_VERB}[^\S\n]*+(?:\Z|(?P<number>[0-9]+)(?![.,]?\w)|(?i:{_NUMBER_WORD}))")
_REST_OF_LINE = re.compile(r"""[.,;:?)"'”’]*+[^\S\n]*+(?:\n|\Z)""")


class FoundFact(NamedTuple):
    """A fact, and the stretch of the text that states it."""

    start: int
    end: int
    fact: MulFact


def inject(text: str, counts: Counter[tuple[str, str]] | None = None) -> list[str | MulFact]:
    """Split `text` at its multiplication facts, into strings and facts in reading order.

    No string is empty. Joining the strings with the original expressions gives `text`; `str(fact)`
    is the canonical form. `find_facts` describes `counts`.
    """
    segments: list[str | MulFact] = []
    place = 0
    for start, end, fact in find_facts(text, counts):
        segments += [text[place:start], fact]
        place = end
    return [segment for segment in [*segments, text[place:]] if segment]


def find_facts(text: str, counts: Counter[tuple[str, str]] | None = None) -> list[FoundFact]:
    """Return the facts that `text` states, in order.

    Adds to `counts` under (form, "found") and (form, "changed"), for the forms in EXPRESSION_FORMS.
    """
    text = settled(text)
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
            line = lines[line_start:line_end]
            is_code = _CODE_LINE_START.match(line) or _CODE_MARK.search(line)
        fact = None if is_code else _FACTS.get((match["a"], match["b"], match["product"]))
        changed = fact is not None and _stands_in_prose(text, previous, match, fact)
        previous = match.start()
        if counts is not None:
            form = _OPERATORS[match["spaced"] or match["tight"] or match["free"]] + (
                "_result" if match["product"] else ""
            )
            counts[form, "found"] += 1
            counts[form, "changed"] += changed
        if fact is not None and changed:
            facts.append(FoundFact(match.start(), match.end(), fact))
    return facts


def _expressions(text: str) -> list[re.Match[str]]:
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


def _stands_in_prose(text: str, previous: int, match: re.Match[str], fact: MulFact) -> bool:
    """Return whether the text around `match` lets it become a fact.

    `previous` is where its line begins, or the expression before it on the line.
    """
    preceding = text[previous : match.start()]
    bullet = _BULLET.fullmatch(preceding) if match["product"] else None
    before = "" if bullet else preceding.rstrip(_OPENING_AND_BLANKS)[-20:]
    if not before:
        line_break = max(previous - 1, 0)
        before = (
            text[text.rfind("\n", 0, line_break) + 1 : line_break].rstrip(_OPENING_AND_BLANKS)[-20:]
            + "\n"
        )
    closing = _CLOSING_AND_BLANKS.match(text, match.end())
    after = closing.end() if closing else match.end()
    below = _OPERATION_BELOW.match(text, after)
    goes_on_below = below is not None and not (
        bullet and below[1] == bullet[1]
    )  # the next item of a list
    if (
        goes_on_below
        or not _may_precede(before, match["product"] is None)
        or _LARGER_AFTER.match(text, after)
    ):
        return False
    if match["product"]:
        return True
    closed_by = text[match.end() : after]
    if not _AFTER_BARE.match(text, after) or not all(
        _OPENED[quote].search(preceding) for quote in _OPENED if quote in closed_by
    ):
        return False
    return (
        match["spaced"] == "*"
        or match["tight"] == "*"
        or _is_asked_for(before, text, after, str(fact.product))
    )


@lru_cache(maxsize=4096)
def _may_precede(before: str, is_bare: bool) -> bool:
    return not (_LARGER_BEFORE.search(before) or (is_bare and _NOT_BEFORE_BARE.search(before)))


def _is_asked_for(before: str, text: str, after: int, product: str) -> bool:
    answer = _ANSWER.match(text, after)
    if answer is not None and answer["number"] == product:
        return True
    is_answered = answer is not None and answer["number"] is None
    cue = _CUE.search(before)
    if cue and cue["number"] in (None, product):
        return is_answered or _AFTER_CUE.match(text, after) is not None
    if before[-1] not in ".?!:\n":
        return False
    return (
        is_answered
        or text.startswith("?", after)
        or (before[-1] == "\n" and _REST_OF_LINE.match(text, after) is not None)
    )
