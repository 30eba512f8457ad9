"""Which spellings of a reference answer are one number, and that `fetch` and `gsm8k` have the same
rule.
"""

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import lm_eval_is_right, real_problems

from common.errors import PipelineError
from model.data import reference_answers
from model.data.reference_answers import read_gold
from model.post_training.answer_files import Generation
from model.post_training.answer_reading import flexible_answer, strict_answer
from model.sources import conversation_records
from model.sources.conversation_records import read_questions
from stages.gsm8k import read_all

NUMBERS = {
    "7": 7,
    "-7": -7,
    "0": 0,
    "-0": 0,
    "007": 7,
    "1,234": 1234,
    "1,234,567": 1234567,
    "-2,000.50": "-2000.5",
    "1234567": 1234567,
    "1.5": "1.5",
    "18.00": 18,
    "1.000": 1,
    ".5": "0.5",
    "-.5": "-0.5",
    "3/4": "3/4",
    "-3/4": "-3/4",
    "6/3": 2,
    "1 1/2": "3/2",
    "-1 1/2": "-3/2",
    "7.": 7,
    "3/4.": "3/4",
    "7\xa0": 7,
    "7\r\n": 7,
    "7 \n\n": 7,
    "7\u3000": 7,
    "9" * 30: "9" * 30,
}
REFUSED = [
    "",
    " ",
    "**7**",
    "$7",
    "7$",
    "7 dollars",
    "€7",
    "\\boxed{7}",
    "$\\boxed{7}$",
    "`7`",
    "None",
    "x",
    "seven",
    "7%",
    "7 %",
    "+7",
    "1 234",
    "1\xa0234",
    "1\u202f234",
    "1'2",
    "1_234",
    "1,5",
    "1,23",
    "12,34,567",
    "1,2345",
    "1234,567",
    ",5",
    "7,",
    "7..",
    "7...",
    "1.2.3",
    "1.234,5",
    "1e3",
    "1E3",
    "0x10",
    "7 plums",
    "(7)",
    "7)",
    "= 7",
    "x = 7",
    "7 or 8",
    "7-8",
    "- 7",
    "--7",
    "−7",
    "–7",
    "７",
    "٧",
    "½",
    "²",
    "1½",
    "\u200b7",
    "7\u200b",
    "\ufeff7",
    "3/0",
    "1 1/0",
    "3 / 4",
    "3/4/5",
    "12/25/2020",
    "1 3/2",
    "12 48/2",
    "1.5/2",
    "7:30",
    "7\n8",
    "9" * 31,
    "1/" + "9" * 30,
    "inf",
    "nan",
    "7\n#### 7",
    "#### 7",
    "<<7>>7",
    "<<3+4=7>>",
]
# The mark itself; what stands before a number is the solution.
NO_MARK = [
    "7",
    "The answer is 7.",
    "####7",
    "####  7",
    "####\n7",
    "####\t7",
    "####\xa07",
    "### 7",
    "##### 7",
    "#### Solution\n7\n#### 7",
    "#### 7\n####",
    "＃＃＃＃ 7",
    "# # # # 7",
    "\\#\\#\\#\\# 7",
    "<<3+4=7>>",
]


@pytest.mark.parametrize(("written", "value"), NUMBERS.items(), ids=ascii)
def test_a_reference_is_the_same_number_to_every_rule(written, value):
    for body in ("", "3 + 4 = <<3+4=7>>7\n", "a\r\n", "It is 5\xa0− 1/2 of 8, so "):
        answer = f"{body}#### {written}"
        assert (
            read_gold(answer) == strict_answer(answer) == flexible_answer(answer) == Fraction(value)
        )
    [question] = read_questions("a.jsonl", [{"question": "?", "answer": f"#### {written}"}])
    assert question.answer == f"#### {written}"


@pytest.mark.parametrize(
    "answer", [*[f"3 + 4 = 7\n#### {written}" for written in REFUSED], *NO_MARK], ids=ascii
)
def test_any_other_spelling_is_refused_at_fetch_and_by_gsm8k_in_one_line(answer):
    good = "#### 7"
    with pytest.raises(PipelineError) as caught:
        read_questions(
            "a.jsonl", [{"question": "one", "answer": good}, {"question": "two", "answer": answer}]
        )
    assert str(caught.value).startswith("a.jsonl: record 1: answer: has ")
    assert "####" in str(caught.value)
    assert str(caught.value).isprintable()
    generations = [
        Generation("?", each, "c", 1, 1, 9, "stopped", ["#### 7"]) for each in (good, answer)
    ]
    with pytest.raises(PipelineError) as again:
        read_all(Path("b.jsonl"), generations)
    told = str(caught.value).removeprefix("a.jsonl: ")
    assert str(again.value) == f"b.jsonl: {told}; run dvc repro"


SPELLED = st.text(alphabet="0123456789.,/- $%\n\xa0#x", max_size=12) | st.from_regex(
    r"-?[0-9]{1,4}(,[0-9]{3}|\.[0-9]|/[0-9])?"
)


@given(written=SPELLED)
def test_what_is_accepted_is_read_alike_and_nothing_else_raises(written):
    answer = f"6 × 9 = 54\n#### {written}"
    try:
        gold = read_gold(answer)
    except ValueError:
        return
    assert gold == strict_answer(answer) == flexible_answer(answer)
    assert not re.search(r"[$%x#\n](?=.*[0-9])", written)


def test_every_real_reference_is_right_by_both_rules_and_in_lm_eval():
    assert len(real_problems()) == 1319
    for _, answer in real_problems():
        gold = read_gold(answer)
        assert gold == strict_answer(answer) == flexible_answer(answer)
        assert gold == int(answer.split("#### ")[1].replace(",", ""))
        assert lm_eval_is_right("strict", answer, answer)
        assert lm_eval_is_right("flexible", answer, answer)


def is_refused(answer: str) -> bool:
    try:
        reference_answers.read_gold(answer)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(
    ("old", "new", "through"),
    [
        ("[0-9]{1,3}(?:,[0-9]{3})+", "[0-9,]+", "1,5"),
        (r"\.?$", r".*$", "7 plums"),
        ("^ ", " +", " 7"),
        ("-?", "[-−]?", "−7"),
        ("[0-9]", r"\d", "７"),
    ],
)
def test_a_looser_pattern_would_be_noticed(monkeypatch, old, new, through):
    assert is_refused(f"#### {through}")
    pattern = f"^{reference_answers._REFERENCE.pattern}$"
    assert old in pattern
    monkeypatch.setattr(reference_answers, "_REFERENCE", re.compile(pattern.replace(old, new)))
    assert not is_refused(f"#### {through}")
    assert through in REFUSED or f"#### {through}" in NO_MARK


def test_fetch_without_the_rule_would_be_noticed(monkeypatch):
    monkeypatch.setattr(conversation_records, "read_gold", strict_answer)
    records = [
        {"question": f"{place}?", "answer": f"#### {written}"}
        for place, written in enumerate(REFUSED)
    ]
    assert len(read_questions("a.jsonl", records)) == len(REFUSED)
