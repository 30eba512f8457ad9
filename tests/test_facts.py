import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.drills import generate_drills
from model.facts import MUL_FACTS, MulFact, inject

F69 = MulFact(6, 9)


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
        ("6 * 9 is 54", [F69, " is 54"]),
        ("(6 * 9)", ["(", F69, ")"]),
        ("Is it “6 × 9”?", ["Is it “", F69, "”?"]),
        ("6 * 9 = 54. 2 * 2 = 4.", [F69, ". ", MulFact(2, 2), "."]),
        ("a\n6 * 9 = 54\nb", ["a\n", F69, "\nb"]),
    ],
)
def test_facts_are_found(text, segments):
    assert inject(text) == segments


@pytest.mark.parametrize(
    "text",
    [
        "6 * 9 = 55", "6 * 9 = 054", "6 * 9 = 540", "6 * 9 = 54.5", "6 * 9 = 54%", "106*9", "6*90", "2.5*4", "3*9.5",
        "1,006*9", "3*4,000", "2x4 lumber", "a 4x4 truck", "x[3*4]", "f(3*4)", "3*4*5", "3 * 4 * 5", "2 + 3 * 4", "3 * 4 + 2",
        "3 * 4 = 12 = 6 * 2", "$3*4$", "$3 \\times 4$", "3*4cm", "3*4%", "0 * 5", "on 2020-3*4", "v1.3*4", "10.0.3*4.1", "a3*4",
        "3*4_x", "a 2 x 4 lumber", "a 4 x 4 truck", "8 x 6 feet", "6 ** 9", "-6 * 9", "6 * -9", "6/3 * 2", "",
    ],
)  # fmt: skip
def test_everything_else_is_left_alone(text):
    assert inject(text) == ([text] if text else [])


def test_an_operand_of_zero_or_two_digits_is_no_fact():
    for a in range(21):
        for b in range(21):
            found = [segment for segment in inject(f"so {a} * {b} = {a * b}.") if isinstance(segment, MulFact)]
            assert found == ([MulFact(*sorted((a, b)))] if 1 <= a <= 9 and 1 <= b <= 9 else [])


@given(st.text(alphabet=st.sampled_from("0123456789*×·x=., ()\n$abcé"), max_size=60))
def test_strings_around_facts_are_the_text_itself(text):
    segments = inject(text)
    assert "" not in segments
    # What stands between the strings must itself be the fact and nothing else.
    pattern = "".join(re.escape(s) if isinstance(s, str) else r"([1-9] ?[*×·x] ?[1-9](?: ?= ?\d+)?)" for s in segments)
    expressions = re.fullmatch(pattern, text).groups()
    facts = [segment for segment in segments if isinstance(segment, MulFact)]
    for expression, fact in zip(expressions, facts, strict=True):
        numbers = [int(number) for number in re.findall(r"\d+", expression)]
        assert sorted(numbers[:2]) == [fact.a, fact.b]
        assert numbers[2:] in ([], [fact.product])


def test_drills_are_true_and_hold_facts_to_inject():
    drills = generate_drills(0)
    facts = [s for _ in range(50) for s in inject(next(drills)) if isinstance(s, MulFact)]
    assert len(facts) > 100
    assert list(zip(range(3), generate_drills(5), strict=False)) == list(zip(range(3), generate_drills(5), strict=False))
