import re
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from repository import REPOSITORY

from model.tokens.facts import EXPRESSION_FORMS, MUL_FACTS, MulFact, inject

F69 = MulFact(6, 9)
FORM_OF_OPERATOR = {"*": "asterisk", "×": "times", "·": "dot", "x": "letter_x"}
SPACES = [" ", "\u00a0", "\u2009", "\u202f"]

BEGINNINGS = [
    "1.",
    "1,",
    "1/",
    "2 ",
    "2 + ",
    "2 * (",
    "-",
    "x = ",
    "x = (",
    "f(",
    "print ",
    "return ",
    "plus ",
    "n ",
    "€ ",
    "± ",
]

digits = st.integers(1, 9)
spaces = st.sampled_from(SPACES)
words = st.sampled_from(
    [
        "We",
        "know",
        "that",
        "so",
        "naïve",
        "Größe",
        "你好",
        "then,",
        "Yes!",
        "one; two",
        "yes:",
        "Well…",
        ".",
    ]
)
cues = st.sampled_from(
    [
        "What is",
        "what’s",
        "How much is",
        "works out",
        "the value of",
        "We know that",
        "Multiply",
        "Solve:",
    ]
)
after_a_result = st.sampled_from(
    [" is", " and", " or", " equals", " so", " then", " boards", ".", ",", "?", "!", " ?", ":"]
)
after_a_bare_one = st.sampled_from(
    [" is", " and", " or", " equals", " gives", " so", " then", ".", ",", "?", " ?", ":"]
)
after_a_cue = st.sampled_from([" and", " so", " then", " now", ".", ",", "?", " ?", ":"])


@st.composite
def operations(draw):
    """`digit operator digit`, the fact and the name of the form."""
    a, b, operator = draw(digits), draw(digits), draw(st.sampled_from("*×·x"))
    before, after = draw(spaces), draw(spaces)
    if operator != "x" and draw(st.booleans()):
        before = after = ""
    return f"{a}{before}{operator}{after}{b}", MulFact(*sorted((a, b))), FORM_OF_OPERATOR[operator]


@st.composite
def expressions(draw):
    """A valid expression, with or without its result."""
    text, fact, form = draw(operations())
    if draw(st.booleans()):
        return text, fact, form
    equals = draw(st.sampled_from(["=", *(space + "=" + space for space in SPACES)]))
    return f"{text}{equals}{fact.product}", fact, form + "_result"


@st.composite
def prose(draw):
    """A text of words and valid expressions, with the facts and the forms in it."""
    text, facts, forms = "", [], Counter()
    for _ in range(draw(st.integers(0, 6))):
        text += " ".join(draw(st.lists(words, min_size=1, max_size=4)))
        expression, fact, form = draw(expressions())
        opening, closing = draw(
            st.sampled_from(
                [("", ""), ("(", ")"), ("“", "”"), ('"', '"'), ('("', '"'), ('("', '")')]
            )
        )
        gap, after = draw(st.sampled_from([" ", "\n", "\r\n", "\n\n"])), draw(after_a_result)
        if form == "asterisk":
            after = draw(after_a_bare_one)
        elif not form.endswith(
            "_result"
        ):  # something has to ask for it: a cue, or an answer after the start of a line
            asks = draw(st.booleans())
            gap = f" {draw(cues)} " if asks else draw(st.sampled_from(["\n", "\r\n", ". ", "\n\n"]))
            after = draw(
                after_a_cue
                if asks
                else st.sampled_from(["?", " ?", f" is {fact.product}.", f" equals {fact.product}"])
            )
        text += (
            gap
            + opening
            + expression
            + closing
            + after
            + draw(st.sampled_from([" ", "\n", "\r\n"]))
        )
        facts.append(fact)
        forms[form] += 1
    return text, facts, forms


def facts_in(text: str) -> list[MulFact]:
    return [segment for segment in inject(text) if isinstance(segment, MulFact)]


def assert_left_alone(text: str) -> None:
    assert inject(text) == ([text] if text else [])


def test_there_are_45_facts_with_a_not_above_b():
    assert len(set(MUL_FACTS)) == 45
    assert all(1 <= fact.a <= fact.b <= 9 for fact in MUL_FACTS)
    assert F69.token == "<MUL_6_9_54>"
    assert str(F69) == "6 × 9 = 54"


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("6*9", [F69]),
        ("9 × 6 = 54", [F69]),
        ("6·9=54.", [F69, "."]),
        ("So 9 x 6 = 54, then.", ["So ", F69, ", then."]),
        ("9 x 6 = 54 boards", [F69, " boards"]),
        ("What is 9 x 6?", ["What is ", F69, "?"]),
        ("What's 6×9?", ["What's ", F69, "?"]),
        ("6 * 9 is 54", [F69, " is 54"]),
        ("3 x 4 is 12", [MulFact(3, 4), " is 12"]),
        ("I think 3 x 4 is 12, so", ["I think ", MulFact(3, 4), " is 12, so"]),
        ("The product 6 × 9 equals 54.", ["The product ", F69, " equals 54."]),
        ("Compute 7·8 now.", ["Compute ", MulFact(7, 8), " now."]),
        ("(6 * 9)", ["(", F69, ")"]),
        ("(6 * 9 = 54)", ["(", F69, ")"]),
        ("What is “6 × 9”?", ["What is “", F69, "”?"]),
        ("6 * 9 = 54. 2 * 2 = 4.", [F69, ". ", MulFact(2, 2), "."]),
        (
            "I know that 6 × 9 = 54, and 2 * 2 = 4.",
            ["I know that ", F69, ", and ", MulFact(2, 2), "."],
        ),
        ("What is 9 × 6 ? It is 54.", ["What is ", F69, " ? It is 54."]),
        ("I 6 × 9 = 54 I", ["I ", F69, " I"]),
        ("a) 6 × 9 = 54", ["a) ", F69]),
        ("12) 6 × 9 = 54", ["12) ", F69]),
        ("so 6*9, yes", ["so ", F69, ", yes"]),
        ("1. 6 × 9 = 54", ["1. ", F69]),
        ("a\n6 * 9 = 54\nb", ["a\n", F69, "\nb"]),
        ("in 2020\r\n6 * 9\r\n2 + 2\r\n", ["in 2020\r\n", F69, "\r\n2 + 2\r\n"]),
        ("6\u00a0×\u00a09", [F69]),
        ("6\u202f* 9\u2009=\u00a054", [F69]),
        ("6 x\u00a09", [F69]),
        ("cost: $5\n6 * 9\n$5", ["cost: $5\n", F69, "\n$5"]),
        ("```\n3 * 4\n```\n6 * 9", ["```\n3 * 4\n```\n", F69]),
        ("<PRE>\n3 * 4\n</pre>\n6 * 9", ["<PRE>\n3 * 4\n</pre>\n", F69]),
        ("6 × 9\n7 × 8\n", [F69, "\n", MulFact(7, 8), "\n"]),
        ("6 × 9.\n7 x 8?\n", [F69, ".\n", MulFact(7, 8), "?\n"]),
        ("so\n6 x 9\nthen", ["so\n", F69, "\nthen"]),
        ("+\n\n6 * 9\n\n+ 5", ["+\n\n", F69, "\n\n+ 5"]),
        ("54 is 6 × 9", ["54 is ", F69]),
        ("Solve: 6 x 9; then rest", ["Solve: ", F69, "; then rest"]),
        ("We know that 6 × 9 is 54", ["We know that ", F69, " is 54"]),
        ("Is it hard? 6 × 9 is fifty-four.", ["Is it hard? ", F69, " is fifty-four."]),
        ("so. 6 × 9? It is.", ["so. ", F69, "? It is."]),
        ("The value of 6 · 9 is", ["The value of ", F69, " is"]),
        ("6 x 9 gives", [F69, " gives"]),
        ("Find 6 · 9 and then rest", ["Find ", F69, " and then rest"]),
        ("He said ‘6 * 9’, twice", ["He said ‘", F69, "’, twice"]),
        ("say '6 * 9', twice", ["say '", F69, "', twice"]),
        ('it is "now 6 * 9", twice', ['it is "now ', F69, '", twice']),
        ("6*9 = 54!", [F69, "!"]),
        ("6 * 9: yes", [F69, ": yes"]),
        ("so — 6 * 9 — yes", ["so — ", F69, " — yes"]),
        ("6 × 9 = 54, 7", [F69, ", 7"]),
        ("- 6 × 9 = 54", ["- ", F69]),
        ("* 6 * 9 = 54\n* 7 * 8 = 56\n", ["* ", F69, "\n* ", MulFact(7, 8), "\n"]),
        ("so\n  • 6 * 9 = 54", ["so\n  • ", F69]),
        ("6 × 9 = 54 (fifty-four)", [F69, " (fifty-four)"]),
        ("<pre>\n3 * 4\n</pre>\n6 * 9", ["<pre>\n3 * 4\n</pre>\n", F69]),
    ],
)
def test_facts_are_found(text, segments):
    assert inject(text) == segments


LEFT_ALONE = {
    "wrong result": [
        "6 * 9 = 55",
        "6 * 9 = 054",
        "6 * 9 = 540",
        "6 * 9 = 54.5",
        "6 * 9 = 54%",
        "6 * 9 = 54,000",
        "6 * 9 = 54 000",
        "6*9=5",
        "6 * 9 = 54\u202f000",
        "6 * 9 = ?",
        "6 * 9 = x",
        "6 * 9 = fifty-four",
        "6 * 9 = -54",
        "6*9 =\n54",
        "6 * 9 = 54a",
    ],
    "other numbers": [
        "106*9",
        "6*90",
        "2.5*4",
        "3*9.5",
        "1,006*9",
        "3*4,000",
        "1 006 * 9",
        "1\u202f006 * 9",
        "1\u00a06 * 9",
        "6 * 9 000",
        "6 * 9\u00a0000",
        "0 * 5",
        "3*4%",
        "3*4cm",
        "$3*4",
        "€3*4",
        "3*4€",
        "3 * 4 €",
        "3 * 4 %",
        "a3*4",
        "3*4_x",
        "-6 * 9",
        "6 * -9",
        "6 * 9²",
        "6\u0301 * 9",
        "٦ 6 * 9",
        "6 × 9 thousand",
        "3 * 4 = 12 thousand",
        "two point 3 * 4 = 12",
        "£ 3 * 4",
    ],
    "larger expressions": [
        "3*4*5",
        "3 * 4 * 5",
        "2 + 3 * 4",
        "3 * 4 + 2",
        "3 * 4 = 12 = 6 * 2",
        "6 ** 9",
        "6/3 * 2",
        "2 x 3 x 4",
        "6 × 9 ÷ 2",
        "2 + (3 * 4)",
        "(3 * 4) + 2",
        "(3 * 4) (2)",
        "2 plus 3 * 4",
        "3 * 4 = 12 plus 1",
        "3 * 4 squared",
        "n 3 * 4",
        "3 * 4 n",
        "6 × 9 ≡ 2",
        "√ 6 × 9",
        "y = 3 * 4",
        "y = (3 * 4)",
        "12 = 3 * 4",
        "3 * 4 - 1",
        "3 * 4 – 1",
        "The value of 5 * 4! is 120.",
        "2 * 3! = 12",
        "(2 * 3)! = 12",
        "6 · 9 : 3 = 18",
        "18 : 6 * 9",
        "3 * 4 : 2",
        "6 * 9 = 54 : 2",
        "(2 + 1) 3 * 4.",
        "(2 + 6 * 9) 3 * 4.",
        "log 3 * 4 = 12",
        "sqrt 3 * 4",
        "half of 3 * 4 is 6",
        "5 % of 3 * 4",
        "the tuple 5, 3 * 4, 7",
        "3, 1 · 3, 1 · 1 · 3",
        "so 5, 3 * 4",
        "so 3 * 4, 7",
        "so 3 * 4; -7",
        "(5), 3 * 4",
        "6 — 3 * 4",
        "6 — 3 * 4 = 12",
        "3 * 4 — 6",
        "6 • 3 * 4 = 12",
        "3 * 4 = 12 (mod 5)",
        "3 * 4 = 12 (n + 1)",
        "2 - 6 * 9 = 54",
        "5 6 * 9",
        "6 * 9 5",
        "6 * 9 = 54 2 * 2 = 4",
        'so"3*4"',
        "so“(6 * 9)”",
        "so(6 * 9)",
    ],
    "dimensions": [
        "2x4 lumber",
        "a 4x4 truck",
        "a 2 x 4 lumber",
        "a 4 x 4 truck",
        "a 4 x 4",
        "An 8 × 8.",
        "the 3 × 3 matrix",
        "8 x 6 feet",
        "a 2 × 2 table",
        "6 × 9 cm",
        "6 × 9 inches",
        "8 × 6 in.",
        "8 x 6 ft",
        "standard 4 × 6 photos",
        "(6 × 9) cm",
        "6 · 9 km",
        "“6 × 9” grid",
        "each 3 * 4 block",
        "4 x 4 relay",
    ],
    "sizes, sets and scores": [
        "Cut 2 x 4 and 2 x 6 boards",
        "sizes 4 x 6 and 5 x 7",
        "The rug is 5 x 8.",
        "The room is 9 x 6.",
        "Toyota Hilux 4 x 4, bought",
        "4 x 4 is the best drive system",
        "Bench press 5 x 5, squats 5 x 5.",
        "Squats 3 x 8",
        "4 x 6 or 5 x 7 prints",
        "sizes 3 × 4 and 5 × 7 inches",
        "Rated 4 · 5.",
        "Squats. 3 x 8.",
        "4 x 4, bought",
        "Rug: 5 x 8",
        "Room 12 is 6 × 9.",
        "a 54 is so 6 × 9.",
        "4 x 4 is 5 years old",
        "4 x 4 is two years old",
        "3 x 4 is 12,000",
        "2.54 is 6 × 9.",
        "I know that 4 x 4 is the best",
        "What is 4 x 4 or so",
        "somewhat is 4 x 4.",
        "3 x 4 is 12th",
        "rug 3 x 4?",
    ],
    "feet and inches": [
        "a rug, 6 x 9', is",
        'The print is 4 x 6".',
        "plywood 4 x 8' or thicker",
        "so 6 * 9' and",
        "it's 6 * 9' and",
        'What is 4 x 6"?',
        'a "rug" of 4 * 6" and',
        "‘a’ or 6 * 9’ and",
        "so 6 * 9 ' and",
    ],
    "line breaks": [
        "2 +\n3 * 4 = 12",
        "3 * 4\n+ 5",
        "3 * 4 = 12\n  × 5",
        "the\n4 x 4\ntruck",
        "2 plus \r\n (3 * 4 = 12",
        "3 * 4 = 12) \r\n minus 2",
        "2 x\n3 * 4",
        "3 * 4 = 12\nx 5",
        "page\n3 * 4\nso",
        "2 +\n- 3 * 4 = 12",
        "- 3 * 4 = 12\n+ 2",
        "3 * 4 = 12\n- 2",
    ],
    "dates, versions, labels": [
        "Jan. 3 · 4",
        "No. 3 · 4.",
        "Vol. 3 · 4.",
        "p. 3 · 4",
        "Fig. 3 · 4",
        "Track 3 · 4.",
        "Score: 3 · 4",
        "Jan. 3 * 4",
        "No. 3 * 4.",
        "Vol. 3 * 4.",
        "p. 3 * 4",
        "v. 3 * 4",
        "Fig. 3 * 4",
        "Track 3 * 4.",
        "Score: 3 * 4",
        "No. 3 · 4?",
        "on 2020-3*4",
        "v1.3*4",
        "10.0.3*4.1",
        "10.0.0.3 * 4.1",
        "May 3 · 4 min read",
        "May 3 · 4.",
        "page 3 · 4",
        "Chapter 3 · 4",
        "3/4*5",
        "Mar 7 · 5",
    ],
    "LaTeX": [
        "$3*4$",
        "$ 3 * 4 $",
        "$3 \\times 4$",
        "\\( 3 · 4 \\)",
        "\\[ 3 * 4 = 12 \\]",
        "3 * 4 &= 12 \\\\",
        "$$\n3 * 4\n$$",
        "\\[\n3 * 4 = 12\n\\]",
        "\\begin{align}\n3 * 4\n\\end{align}",
        "where x^2 is 3 * 4",
        "$$\n3 * 4\n$$\n6 * 9",
        "the equation $$\n3 * 4 = 12\n$$ holds",
        "\\begin{equation}\\begin{split}a\\end{split}\n3 * 4 = 12\n\\end{equation}",
        "so\\[\n\\] or\n6 * 9",
        "6 * 9\n\n$$",
        "x_1 and 3 * 4",
    ],
    "code": [
        "x[3*4]",
        "f(3*4)",
        "`3*4`",
        "so ` 3 * 4 ` is",
        "    3 * 4",
        "\t3 * 4",
        " \t3 * 4",
        "```\n3 * 4\n```",
        "```python\n3 * 4",
        "~~~\n3 * 4\n~~~",
        "> ```\n3 * 4",
        "return 3 * 4;",
        "return 3 * 4",
        "print 3 * 4",
        "  print 1, 3 * 4",
        "then echo 3 * 4",
        "for (i = 0; i < 3 * 4; i++)",
        "SELECT 3 * 4 FROM t",
        "1; SELECT a, 3 * 4",
        "int * p",
        "a * b",
        ">>> 3 * 4",
        "f(x, 3 * 4, 5)",
        "x = [1, 3 * 4 ]",
        "6 * 9  ; \t",
        "{ 6 * 9 }",
        "6 * 9 // area",
        "/* 6 * 9",
        "# 6 * 9",
        "| 6 * 9 |",
        "@ 6 * 9",
        "~ 6 * 9",
        "a > 6 * 9",
        "<b> 6 * 9",
        "a & 6 * 9",
        "<pre>\n6 * 9\n</pre>",
        "<PRE>\n6 * 9\n</PRE>",
        "<Code>\n6 * 9 = 54",
        "<code\n>\n6 * 9",
        "30 6 * 9 *",
        "* 6 * 9 * *",
        "assert 3 * 4 = 12",
        "a -> 3 * 4",
    ],
    "emphasis and bullets": [
        "**6**",
        "*6* 9",
        "6* 9",
        "6 *9",
        "6 *9*",
        "* 6 * 9",
        "-6 * 9 = 54",
        "**6 * 9**",
        "_6 * 9_",
        "- 6 * 9",
        "so - 6 * 9 = 54",
        "- (6 * 9 = 54)",
        "6 * 9 = 54 - 6 * 9 = 54",
        "- 6 * 9 = 55",
    ],
    "nothing": [
        "",
        " ",
        "*",
        "x",
        " x ",
        "6",
        "6 x",
        "6 *",
        "* 9",
        "6x9",
        "6 x9",
        "6\n* 9",
        "6  *  9",
    ],
}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=f"{kind}: {text!r}")
        for kind, texts in LEFT_ALONE.items()
        for text in texts
    ],
)
def test_everything_else_is_left_alone(text):
    assert_left_alone(text)


@given(
    st.integers(0, 20) | st.integers(0),
    st.integers(0, 20) | st.integers(0),
    st.sampled_from("*×·x"),
    st.booleans(),
)
def test_an_operand_outside_1_to_9_is_no_fact(a, b, operator, with_result):
    text = f"What is {a} {operator} {b}" + (f" = {a * b}" if with_result else "")
    assert facts_in(text) == ([MulFact(*sorted((a, b)))] if 1 <= a <= 9 and 1 <= b <= 9 else [])


def test_every_pair_of_digits_is_its_fact():
    assert set(
        facts_in("\n".join(f"{a} * {b} = {a * b}" for a in range(1, 10) for b in range(1, 10)))
    ) == set(MUL_FACTS)


@given(st.text(alphabet=st.sampled_from("0123456789*×·x=., ()\n$abcé\u00a0`;+'"), max_size=60))
def test_strings_around_facts_are_the_text_itself(text):
    segments = inject(text)
    assert "" not in segments
    # What stands between the strings must itself be the fact and nothing else.
    space = "[ \u00a0]?"
    expression = rf"([1-9]{space}[*×·x]{space}[1-9](?:{space}={space}\d+)?)"
    pattern = "".join(
        re.escape(segment) if isinstance(segment, str) else expression for segment in segments
    )
    expressions = re.fullmatch(pattern, text).groups()
    facts = [segment for segment in segments if isinstance(segment, MulFact)]
    for expression, fact in zip(expressions, facts, strict=True):
        numbers = [int(number) for number in re.findall(r"\d+", expression)]
        assert sorted(numbers[:2]) == [fact.a, fact.b]
        assert numbers[2:] in ([], [fact.product])


@given(prose())
def test_exactly_the_expressions_in_prose_are_found_and_counted(sample):
    text, facts, forms = sample
    counts = Counter()
    assert [segment for segment in inject(text, counts) if isinstance(segment, MulFact)] == facts
    for form in EXPRESSION_FORMS:
        assert counts[form, "found"] == counts[form, "changed"] == forms[form]
    assert set(forms) <= set(EXPRESSION_FORMS)


@given(expressions(), st.characters(exclude_categories=["Cs"]), st.sampled_from(["left", "right"]))
def test_no_character_may_be_attached(expression, character, side):
    text, _, _ = expression
    assume(
        not character.isspace()
        and character not in ("(\"'“‘" if side == "left" else ".,;:!?)\"'”’")
    )
    counts = Counter()
    attached = f"so {character}{text}" if side == "left" else f"so {text}{character}"
    assert inject(attached, counts) == [attached]
    assert sum(counts.values()) == 0  # not even found: its operands do not stand alone


@given(
    expressions(),
    st.sampled_from(
        [".5", ",5", ",000", "'s", ")x", ".x", "”9", " 000", " + 1", ") * 2", " %", "\u202f000"]
    ),
)
def test_no_continuation_may_follow(expression, continuation):
    assert_left_alone(expression[0] + continuation)


@given(expressions(), st.sampled_from(BEGINNINGS))
def test_nothing_that_makes_it_larger_may_precede(expression, beginning):
    assert_left_alone(beginning + expression[0])


@pytest.mark.parametrize("mark", [*"`\\{}[]$#_&|<>@~^", "//", "/*", "f(", "SELECT"])
def test_a_line_with_a_mark_of_code_has_no_facts(mark):
    for line in (f"so {mark} then 6 * 9 = 54, yes", f"so 6 * 9 is it {mark}", f"{mark} or 6 * 9"):
        assert_left_alone(line)
    assert facts_in(f"so {mark} then\n6 * 9\nso {mark}") == [F69]


@given(operations(), st.integers(0), st.sampled_from(["", "0", "00"]))
def test_a_wrong_result_is_never_changed(operation, result, zeros):
    text, fact, form = operation
    assume(zeros or result != fact.product)
    counts = Counter()
    text = f"so {text} = {zeros}{result}."
    assert inject(text, counts) == [text]
    assert (counts[form + "_result", "found"], counts[form + "_result", "changed"]) == (1, 0)


def test_canonical_form_is_its_fact():
    for fact in MUL_FACTS:
        assert inject(str(fact)) == [fact]


HOSTILE_PARTS = [
    "6",
    "9",
    "3",
    "6*9",
    "3 * 4",
    "*",
    "×",
    "x",
    "= 12",
    "= 54",
    ".",
    ",",
    "(",
    ")",
    "+",
    "is",
    "cm",
    "the",
    "$",
    "\n",
]
hostile_text = st.lists(st.sampled_from(HOSTILE_PARTS), max_size=25).map(" ".join)


@given(prose().map(lambda sample: sample[0]) | hostile_text)
def test_a_text_of_canonical_forms_has_the_same_facts(text):
    assert facts_in("".join(map(str, inject(text)))) == facts_in(text)


@given(prose().map(lambda sample: sample[0]) | hostile_text)
def test_counts_add_up(text):
    counts = Counter({("dot", "found"): 7})
    facts = len([segment for segment in inject(text, counts) if isinstance(segment, MulFact)])
    assert sum(counts[form, "changed"] for form in EXPRESSION_FORMS) == facts
    counts["dot", "found"] -= 7  # counts are added to
    assert all(counts[form, "changed"] <= counts[form, "found"] for form in EXPRESSION_FORMS)
    assert {form for form, _ in counts} <= set(EXPRESSION_FORMS)
    assert inject(text) == inject(text, Counter())


def test_counts_tell_what_is_found_from_what_is_changed():
    counts = Counter()
    inject("6 * 9 = 55, the 3 × 3 matrix, 2*2=4 and 16 * 9\n```\n3 · 4\n```\n    3 x 4\n", counts)
    assert +counts == Counter(
        {("asterisk_result", "found"): 2, ("asterisk_result", "changed"): 1}
        | {("times", "found"): 1, ("dot", "found"): 1, ("letter_x", "found"): 1}
    )


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("3*" * 500_000, 0),
        (" " * 1_000_000 + "3*4", 0),
        ("so" + " " * 1_000_000 + "3*4" + " " * 1_000_000, 1),
        ("(" * 500_000 + "3*4" + ")" * 500_000, 1),
        ("a" * 1_000_000 + " 3*4", 1),
        ("3*4=" + "9" * 1_000_000, 0),
        ("6 * 9 = 54, so then " * 50_000, 50_000),
        ("'\" 3*4 " * 120_000, 0),
        ("* one x two\n" * 80_000, 0),
        ("```\n3 * 4\n```\n" * 70_000, 0),
        ("3 * 4\n" + "<pre\\[$$~~~\n" * 80_000, 0),
        ("3 * 4\n" + "<pre ~~~\n" * 100_000, 1),
        ("so 3 * 4\n+\n" * 80_000, 0),
        ("so 3 * 4 = 12\n\t\n" * 60_000, 60_000),
        ('so "' + "6 * 9 and " * 100_000 + '6 * 9"', 100_000),
        ('so "6 * 9" and ' * 70_000, 70_000),
        ("what is 6 x 9' or " * 55_000, 0),
        ("'" * 500_000 + "6 x 9" + "'" * 500_000, 1),
        ("3 * 4" + "\n" * 500_000 + " " * 500_000 + "+ 3 * 4", 1),
        (" " * 500_000 + "- \n" + " " * 500_000 + "+", 0),
        ("- " + " " * 999_000 + "3 * 4 = 12", 1),
        ("3 * 4\n" + "; \t" * 300_000, 1),
    ],
    ids=range(22),
)
def test_a_megabyte_of_anything_is_read_in_one_go(text, facts):
    """Each takes a second or two; what grows with the square of the length would take minutes."""
    assert len(facts_in(text)) == facts


def test_no_group_is_possessive():
    """Before Python 3.11.5, `re` kept what a possessive group had matched of an attempt that
    failed; atomic ones are right.
    """
    possessive = re.compile(r"\)(?:[?*+]|\{[0-9,]+\})\+")
    assert possessive.search("(?:ab)?+")
    for path in sorted((REPOSITORY / "model").rglob("*.py")):
        lines = [
            line
            for line in path.read_text().splitlines()
            if possessive.search(line.partition("# ")[0])
        ]
        assert not lines, f"{path.name}: {lines}"
