"""The 45 multiplication facts, and the rule for which expressions in a text become one.

An expression that stays text costs nothing, but a fact in the wrong place corrupts the text. So an
expression stays text in case of doubt. Examples:

    We know that 9 × 6 = 54.      <MUL_6_9_54>
    What is 6 x 9?                <MUL_6_9_54>, with the question mark behind it
    6*9=55                        text: a wrong result
    2 + 3 * 4 is 14               text: part of a larger expression
    a 4 x 4 board                 text: a size
    `3 * 4`                       text: code

Grammar of an expression, counted as found:

    found    = left, digit, operator, digit, [ space? "=" space? whole number ], right
    digit    = "1" … "9"                                a whole number of one digit
    operator = "*" | space "*" space | space? ("×" | "·") space? | space "x" space
    space    = one space, or a no-break, narrow no-break or thin one
    left     = start of text or white space, then any of ( " ' “ ‘
    right    = any of . , ; : ! ? ) " ' ” ’, then white space or end of text

An expression becomes a fact, counted as changed, if all of this holds:

- Its result, if it has one, is the product. With a wrong result, all of it stays text.
- Its line has no mark of code or LaTeX (`_CODE_MARK`). Its text has no display formula. It is not
  in a fence or in HTML code (`_CODE_BLOCK`).
- It is not part of a larger expression. Past blanks, quotes and brackets, no digit, symbol or word
  of formulas is beside it (`2 + (3 * 4)`, `half of 3 * 4`, `3 * 4 : 2`). Past one line break, no
  operator is beside it. With a result it may follow a bullet.
- Bare, without a result, it is not in a list of numbers and not before `!`. A quote after it may
  mean inches, so its opening quote must stand before it. The word after it can follow a number
  (`_AFTER_BARE`: `is`, `and`; not `cm`). The word before it is not a determiner (`a 4 x 4`) and
  not a word that is numbered (`page 3 · 4`, `No. 3 · 4`).
- Bare and not with `*`, it may be a size or a score, so one of these must hold: words before it
  ask for its product (`_CUE`: `what is`, `54 is`); its product follows (`3 x 4 is 12`); it begins
  a line or sentence, and `?` or a number in words follows; or it has a line to itself.
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
# Keys are operands and result as written, so text is compared with text and a huge number never
# becomes an int. ("6", "9", None), ("9", "6", None), ("6", "9", "54") and ("9", "6", "54") are
# MulFact(6, 9).
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

# One space, no-break, thin and narrow no-break.
_SPACES = " \u00a0\u2009\u202f"
# Every expression has one of these, so a text without any is not searched.
_MARKS = ("*", "×", "·", *(space + "x" for space in _SPACES))
# The pattern starts with a digit and looks behind it only then, so texts without a candidate are
# scanned fast. S stands for one of `_SPACES`.
_CANDIDATE = re.compile(
    r"""(?P<a>[1-9]) (?<! [^\s("'“‘] [1-9])
        (?: S (?P<spaced>[*x]) S | (?P<tight>\*) | S? (?P<free>[×·]) S? )
        (?P<b>[1-9])
        # An atomic group, since (…)?+ kept a part of a failed match before Python 3.11.5.
        (?> (?: S? = S? (?P<product> [0-9]++) )? )
        (?= [.,;:!?)"'”’]*+ (?:\s|\Z) )""".replace("S", f"[{_SPACES}]"),
    re.VERBOSE,
)
# What may stand between an expression and the text that decides whether it is part of more.
_OPENING = "(\"'“‘"
_OPENING_AND_BLANKS = _OPENING + "".join(filter(str.isspace, map(chr, range(0x3001)))).replace(
    "\n", ""
)
_CLOSING_AND_BLANKS = re.compile(r"""(?>(?:[^\S\n]|[)"'”’])*)""")
# For each closing quote: what must precede the expression if the quote closes something. In
# `"3 x 4" is` it does; in `3 x 4" wide` it means inches.
_OPENED = {
    close: re.compile(rf"(?<![^\s{_OPENING}]){open}[^{open}{close}]*\Z")
    for open, close in ('""', "''", "“”", "‘’")
}
_BULLET = re.compile(r"\s*([-*•])\s+")

# Three kinds: all of a text with a display formula, a fence, and HTML's elements for code.
_CODE_BLOCK = re.compile(
    r"""\A(?=.*?(?:\$\$|\\\[|\\begin\{)).*  # all of a text that has a display formula
      | ^[ \t>]*(```|~~~)[^`\n]*$.*?(?:^[ \t>]*\1|\Z)
      | (?i:<(pre|code|script|style)\b.*?(?:</\2|\Z))""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
# Each block has one of these. Most texts have none, so `_CODE_BLOCK` need not search them.
_CODE_BLOCK_MARKS = (
    "```",
    "~~~",
    "$$",
    "\\[",
    "\\begin{",
    "<",
)
_CODE_WORDS = (
    "return|print|echo|yield|assert|case|lambda|let|var|const|expr|int|float|double|select|SELECT"
)
# Indented by four spaces or a tab, or with a word of programming languages first.
_CODE_LINE_START = re.compile(rf"\s{{4}}|\s*\t|\s*(?:{_CODE_WORDS})\b")
# A character class first, so the search tries the alternatives only at these characters.
_CODE_MARK = re.compile(
    r"[`\\{}\[\]$#_&|<>@~^/(;S] (?: (?<=[`\\{}\[\]$#_&|<>@~^]) | (?<=/)[/*] | (?<=\w\() | "
    r"(?<=;)\s*$ | (?<=\bS)ELECT\b )",
    re.VERBOSE,
)

# The next patterns match `before`: the end of the text before an expression on its line. If it
# begins the line, `before` is the end of the line above and a line break.
_WORD_START = r"(?<![^\W\d_])(?<![^\W\d_]['’])"
_OPERATION = r"[-+−–—*∗/÷×·⋅=≠≈≡≤≥±√∑∏∫^%]"
_FORMULA_WORD = (
    "(?i:plus|minus|times|over|by|divided|multiplied|mod|point|squared?|cubed?|percent|hundred|thousand|million|sqrt|root|log|ln"
    "|exp|sin|cos|tan|abs|max|min|sum|difference|quotient|power|factorial|negative|half|third|quarter|twice|thrice|double|triple)"
)
# In order: a digit or symbol, but no sentence mark and not the `)` of `a)`; a colon after a space,
# a digit with a dash, `% of`; a word of formulas, of code, or a variable's letter; an operator at
# the end of the line above.
_LARGER_BEFORE = re.compile(
    rf"""(?: (?! [^\W\d_] | [.,;:!?”’—…•)] ) \S | (?<!^\w) (?<!^\w\w) \)  # not a)
      | \s: | \d\s*[—•] | %\s*of
      | {_WORD_START} (?: {_FORMULA_WORD} (?:\s+of)? | {_CODE_WORDS} | [^\W\d_aAI] )
      | (?: {_OPERATION} | {_WORD_START} (?:{_FORMULA_WORD}|x) ) \n )\Z""",
    re.VERBOSE,
)
# A list of numbers, an initial or abbreviation, a determiner, or a word that is numbered.
_NOT_BEFORE_BARE = re.compile(
    rf"(?:\d\)?[,;]|{_WORD_START}(?:[^\W\d_]\.|(?:"
    "a|an|the|this|these|those|each|every|any|no|some|his|her|its|my|our|their|your|nos|pp?|pages?|ch|chapters?|sect?|sections?|"
    "figs?|figures?|tab|tables?|parts?|seasons?|ep|episodes?|vers?|versions?|vols?|volumes?|days?|grades?|levels?|num|numbers?|"
    "eqs?|ex|art|articles?|tracks?|scores?|rated|ratings?|sizes?|sets?|dimensions?|may|"
    r"(?:jan|feb|mar|apr|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6})(?:[.:]|\n)?))\Z",
    re.IGNORECASE,
)
# Words that ask for a product or state it: `54 is`, `what is`, `calculate`, `the value of`.
_CUE = re.compile(
    r"(?:(?<!\S)(?P<number>[0-9]+)\sis|(?<![\w'’-])(?:what(?:['’]s|\sis)|how\smuch\sis|comput(?:e|ing)|calculat(?:e|ing)|"
    r"evaluat(?:e|ing)|find|solv(?:e|ing)|work(?:s|ed|ing)?\sout|multiply(?:ing)?|counting|(?:value|product)\sof|answer\sto|"
    r"know(?:\sthat)?|expression|equation|problem):?)\Z",
    re.IGNORECASE,
)
# The next patterns match what follows an expression and `_CLOSING_AND_BLANKS`.
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
# After a bare expression: a sentence mark, but no comma before a number; the end; or these words.
_AFTER_BARE = re.compile(
    rf"(?![,;][^\S\n]*+[-+−(]*\d)[.,;:?—…•\n]|\Z|{_VERB}|{_JOINING}|(?i:and|so|then|now)(?!\w)"
)
_AFTER_CUE = re.compile(r"[.,;:?\n]|\Z|(?i:and|so|then|now)(?!\w)")
# A verb and the result in digits or in words, or a verb at the end of the text.
_ANSWER = re.compile(rf"{_VERB}[^\S\n]*+(?:\Z|(?P<number>[0-9]+)(?![.,]?\w)|(?i:{_NUMBER_WORD}))")
_REST_OF_LINE = re.compile(r"""[.,;:?)"'”’]*+[^\S\n]*+(?:\n|\Z)""")


class FoundFact(NamedTuple):
    """A fact, and the stretch `text[start:end]` that states it."""

    start: int
    end: int
    fact: MulFact


def inject(text: str, counts: Counter[tuple[str, str]] | None = None) -> list[str | MulFact]:
    """Split `text` at its multiplication facts, into strings and facts in reading order.

    `We know that 9 × 6 = 54.` gives ["We know that ", MulFact(6, 9), "."]. No string is empty.
    Joining the strings with the original expressions gives `text`; `str(fact)` is the canonical
    form. `find_facts` describes `counts`.
    """
    segments: list[str | MulFact] = []
    place = 0
    for start, end, fact in find_facts(text, counts):
        segments += [text[place:start], fact]
        place = end
    return [segment for segment in [*segments, text[place:]] if segment]


def find_facts(text: str, counts: Counter[tuple[str, str]] | None = None) -> list[FoundFact]:
    """Return the facts that `text` states, in order.

    Adds to `counts` under (form, "found") and (form, "changed"), for the forms in EXPRESSION_FORMS:
    `3 * 4` has the form asterisk, `3 * 4 = 12` the form asterisk_result.
    """
    # The length stays, so places are those of the original text.
    text = settled(text)
    expressions = _expressions(text)
    lines = text
    if expressions and any(mark in text for mark in _CODE_BLOCK_MARKS):
        # A block of code becomes one line of marks of code, of the same length. The test of the
        # line below then refuses expressions in it.
        lines = _CODE_BLOCK.sub(lambda block: "`" * len(block[0]), text)
    facts: list[FoundFact] = []
    line_end = 0
    for match in expressions:
        # Each line is read once, however many expressions it has.
        if match.start() >= line_end:
            line_start = previous = lines.rfind("\n", 0, match.start()) + 1
            # Without a further line break, -1 % (length + 1) is the end of the text.
            line_end = lines.find("\n", match.end()) % (len(lines) + 1)
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
    """Return the expressions of the grammar, in order."""
    if not any(mark in text for mark in _MARKS):
        return []
    found = []
    for match in _CANDIDATE.finditer(text):
        # The rule `left`, of which the pattern checks one character only: quotes and brackets, and
        # before them white space or the start of the text.
        left = match.start()
        while left > 0 and text[left - 1] in _OPENING:
            left -= 1
        if left == 0 or text[left - 1].isspace():
            found.append(match)
    return found


def _stands_in_prose(text: str, previous: int, match: re.Match[str], fact: MulFact) -> bool:
    """Return whether the text around `match` lets it become a fact.

    `previous` is where its line begins, or where the expression before it on the line begins. For
    `Ann asks: (3 x 4) is what?` the parts are

        preceding   `Ann asks: (`      before   `Ann asks:`
        match       `3 x 4`            closing  `) `
        after       the place of `is`
    """
    preceding = text[previous : match.start()]
    bullet = _BULLET.fullmatch(preceding) if match["product"] else None
    # The last 20 characters hold every word that the patterns look for, and keep the cache small.
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
    # A line below with the same bullet is the next item of a list, not a continued formula.
    goes_on_below = below is not None and not (bullet and below[1] == bullet[1])
    if (
        goes_on_below
        or not _may_precede(before, match["product"] is None)
        or _LARGER_AFTER.match(text, after)
    ):
        return False
    if match["product"]:
        return True
    # From here on it is bare: it has no result.
    closed_by = text[match.end() : after]
    if not _AFTER_BARE.match(text, after) or not all(
        _OPENED[quote].search(preceding) for quote in _OPENED if quote in closed_by
    ):
        return False
    # `*` multiplies; the other signs may also be a size, a score or a list.
    return (
        match["spaced"] == "*"
        or match["tight"] == "*"
        or _is_asked_for(before, text, after, str(fact.product))
    )


@lru_cache(maxsize=4096)
def _may_precede(before: str, is_bare: bool) -> bool:
    """Return whether an expression after `before` can stand alone."""
    return not (_LARGER_BEFORE.search(before) or (is_bare and _NOT_BEFORE_BARE.search(before)))


def _is_asked_for(before: str, text: str, after: int, product: str) -> bool:
    """Return whether the text asks for the product of a bare expression, or states it."""
    # `3 x 4 is 12`
    answer = _ANSWER.match(text, after)
    if answer is not None and answer["number"] == product:
        return True
    # A result in words is not compared, so it counts only with a cue or at the start.
    is_answered = answer is not None and answer["number"] is None
    # `what is 3 x 4?` and `12 is 3 x 4.`
    cue = _CUE.search(before)
    if cue and cue["number"] in (None, product):
        return is_answered or _AFTER_CUE.match(text, after) is not None
    # Without a cue, it has to begin a sentence or line: `3 x 4?`, `3 x 4 is twelve`, `3 x 4`.
    if before[-1] not in ".?!:\n":
        return False
    return (
        is_answered
        or text.startswith("?", after)
        or (before[-1] == "\n" and _REST_OF_LINE.match(text, after) is not None)
    )
