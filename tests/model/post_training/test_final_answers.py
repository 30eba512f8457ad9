import itertools
import re
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import lm_eval_is_right, lm_eval_task, lm_eval_task_of_the_package, real_problems

from common.errors import PipelineError
from common.files import checksummed_directory, write_jsonl
from model.data.reference_answers import read_gold
from model.export.hf_tokenizer import to_hugging_face
from model.hugging_face.directory import read_tokenizer
from model.post_training import answer_reading
from model.post_training.answer_files import Generation, read_generations, write_generations
from model.post_training.answer_reading import (
    RULES,
    as_stated,
    as_text,
    flexible_answer,
    read,
    strict_answer,
    summarize,
)
from model.statistics.rates import rate
from model.tokens.export_tokenizer import FactTokenizer
from model.tokens.facts import MUL_FACTS, MulFact

FACT = MulFact(6, 9)

NUMBERS = [
    # what is written, and what it is to both rules
    ("18", 18),
    ("18.", 18),
    ("18...", 18),
    ("18\n", 18),
    ("18 eggs.", 18),
    ("18.00", 18),
    ("018", 18),
    ("18%", 18),
    ("18$", 18),
    ("1,234", 1234),
    ("1,234,567.", 1234567),
    ("1,234.50", "1234.5"),
    ("2.5", "2.5"),
    (".5", "0.5"),
    ("-5", -5),
    ("-2,000.5", "-2000.5"),
    ("3/4", "3/4"),
    ("3/4.", "3/4"),
    ("-3/4", "-3/4"),
    ("6/3", 2),
    ("1 1/2", "3/2"),
    ("1 1/2 cups", "3/2"),
    ("-1 1/2", "-3/2"),
    ("1.5/2", "3/4"),
    ("3/0", None),
    ("1 1/0", None),
    ("1.2.3", None),
    ("..5", None),
    ("12/25/2020", None),
    ("9" * 30, "9" * 30),
    ("9" * 31, None),
    ("1/" + "9" * 31, None),
    ("0", 0),
    ("-0", 0),
    ("½", None),
    ("٣", None),
    ("", None),
    ("$", None),
    ("...", None),
]
ONLY_FLEXIBLE = [
    ("$5", 5),
    ("$1,234.50.", "1234.5"),
    ("-$5", -5),
    ("$-5", -5),
    ("−5", -5),
    ("−$5", -5),
    ("= 5", 5),
    ("**5**", 5),
    ("$3/4", "3/4"),
]
LAST = [
    ("He has 3, then 4 eggs. #### none", 4),
    ("#### 3\nor 4", 4),
    ("5-10", -10),
    ("5 - 10", 10),
    ("on day 5. 1/2", "1/2"),
    ("5, 1/2", "1/2"),
    ("12 48/2", 24),
    ("1.5 1/2", "1/2"),
    ("7:30", 30),
    ("18 ... and $.", 18),
    ("<<6*9=54>>", 54),
    ("48 / 2", 2),
    ("it is 18 in 1.2.3", None),
    ("1 2 3/4", "11/4"),
    ("3/4/", "3/4"),
    ("5./4", 4),
]
AFTER_MARK = [
    ("#### 3 #### 4", 3),
    ("#### 3\n#### 4", 3),
    ("#### three #### 4", 4),
    ("####3", None),
    ("####  3", None),
    ("####\n3", None),
    ("### 3", None),
    ("##### 3", 3),
    ("#### \n3", None),
    ("#### (3)", None),
    ("#### 3/4", "3/4"),
    ("#### 12 48/2", 12),
    ("#### -$5", None),
    ("18", None),
    ("#### - 5", None),
    ("3 #### 4 5", 4),
]


# As models write the end of a solution: what the strict and the flexible rule read.
# lm-evaluation-harness reads the same.
SPELLED = [
    ("#### 7\xa0", 7, 7),
    ("#### 7\u200b", 7, 7),
    ("#### 7\r\n", 7, 7),
    ("#### 7  ", 7, 7),
    ("#### 7 plums", 7, 7),
    ("#### 7 (of 8)", 7, 8),
    ("#### 7%", 7, 7),
    ("#### 7 %", 7, 7),
    ("#### 1,000 dollars.", 1000, 1000),
    ("#### 1.000", 1, 1),
    ("#### 1,5", 15, 15),
    ("#### 1 000", 1, 0),
    ("#### 1\u202f000", 1, 0),
    ("#### 1e3", 1, 3),
    ("#### 7 #### 8", 7, 8),
    ("#### x #### 8", 8, 8),
    ("#### 7\n#### 7", 7, 7),
    ("####\xa07", None, 7),
    ("#### \u200b7", None, 7),
    ("####7", None, 7),
    ("####\n7", None, 7),
    ("####  7", None, 7),
    ("#### **7**", None, 7),
    ("**#### 7**", 7, 7),
    ("#### $1,000", None, 1000),
    ("#### \\boxed{7}", None, 7),
    ("$\\boxed{7}$", None, 7),
    ("\\frac{3}{4}", None, 4),
    ("#### +7", None, 7),
    ("#### –7", None, 7),
    ("#### (7)", None, 7),
    ("#### `7`", None, 7),
    ("#### x = 7", None, 7),
    ("<<3+4=7>>", None, 7),
    ("#### <<3+4=7>>", None, 7),
    ("#### ７", None, None),
    ("#### ٧", None, None),
    ("#### ½", None, None),
    ("#### None", None, None),
    ("####", None, None),
]


def exactly(value) -> Fraction | None:
    return None if value is None else Fraction(value)


@pytest.mark.parametrize(("written", "value"), NUMBERS)
def test_both_rules_read_a_number_as_it_is_written(written, value):
    assert flexible_answer(f"He has 7 eggs. So it is {written}") == exactly(
        value if re.search("[0-9]", written) else 7
    )
    assert strict_answer(f"He has 7 eggs.\n#### {written}") == exactly(value)
    assert strict_answer(f"#### {written}\n#### 7") == exactly(
        value if re.search("[0-9]", written) else 7
    )


@pytest.mark.parametrize(("written", "value"), ONLY_FLEXIBLE)
def test_what_stands_between_the_mark_and_its_number_is_not_of_the_strict_format(written, value):
    assert (
        flexible_answer(f"So it is {written}")
        == flexible_answer(f"#### {written}")
        == exactly(value)
    )
    assert strict_answer(f"#### {written}") is None


@pytest.mark.parametrize(("text", "value"), LAST)
def test_flexible_takes_the_last_number(text, value):
    assert flexible_answer(text) == exactly(value)


@pytest.mark.parametrize(("text", "value"), AFTER_MARK)
def test_strict_takes_the_first_number_right_after_a_mark(text, value):
    assert strict_answer(text) == exactly(value)


@pytest.mark.parametrize(("text", "strict", "flexible"), SPELLED)
def test_the_end_of_a_solution_is_read_as_lm_eval_reads_it(text, strict, flexible):
    for rule, ours, value in (
        ("strict", strict_answer, strict),
        ("flexible", flexible_answer, flexible),
    ):
        assert ours(text) == value
        # Where the same value has other digits, 1.000 and 000, the two differ.
        for gold in () if re.search("[. \u202f]000", text) else (7, 8, 0, 1, 3, 4, 15, 1000):
            assert lm_eval_is_right(rule, text, f"#### {gold}") == (gold == value), (rule, gold)


@given(st.text() | st.text(alphabet="0123456789.,$/-−% #\n", max_size=200))
def test_no_text_raises(text):
    for rule in (strict_answer, flexible_answer):
        assert rule(text) is None or isinstance(rule(text), Fraction)
    assert strict_answer("#### " + text) is None or any(digit in text for digit in "0123456789")


@pytest.mark.parametrize("unit", ["1", "$", ".", "1.", "1/", " 1", "#### ", "-", "1 1/", "11,"])
def test_a_text_of_a_hundred_thousand_signs_is_read_in_linear_time(unit):
    """A second if so; minutes if every place of a run were tried."""
    text = unit * (100_000 // len(unit))
    for start in ("", "#### "):
        strict_answer(start + text)
        flexible_answer(start + text)


@given(
    st.integers(-(10**29), 10**29),
    st.sampled_from(["", ".0", ".00", ".", "%", " eggs", ".\n", "!", "..."]),
    st.booleans(),
)
def test_an_integer_is_read_back_from_every_format(number, end, commas):
    digits = f"{abs(number):,}" if commas else f"{abs(number)}"
    digits = digits[:30] if end in (".0", ".00") else digits
    number = int(digits.replace(",", "")) * (-1 if number < 0 else 1)
    sign = "-" if number < 0 else ""
    assert strict_answer(f"3 + 4 = 7\n#### {sign}{digits}{end}") == number
    for before in (sign, f"{sign}$", f"${sign}"):
        assert flexible_answer(f"3 + 4 = 7, so {before}{digits}{end}") == number


@given(st.integers(-999, 999), st.integers(1, 999))
def test_a_fraction_is_read_back(over, under):
    assert (
        strict_answer(f"#### {over}/{under}")
        == flexible_answer(f"7 or {over}/{under}.")
        == Fraction(over, under)
    )


def perturbed(answer: str):
    """Yield texts as models write them for a problem of this answer, right and wrong by turns."""
    body, end = answer.split("\n#### ")
    gold = int(end.replace(",", ""))
    plain = re.sub("<<.*?>>", "", body)
    for number in (gold, gold + 1, -gold, gold * 10, gold % 10):
        for written in {f"{number}", f"{number:,}"}:
            yield f"{body}\n#### {written}"
            yield f"{plain}\n#### {written}."
            yield f" {plain}\n#### {written} eggs\n"
            yield f" {plain}\n#### {written}%"
            yield f" {plain}\n#### ${written}"
            yield f" {plain}\n#### {written}$."
            yield f" {plain}\n####{written}"
            yield f" {plain}\n#### {written}\n#### {number + 2}"
            yield f" {plain}\n#### {written}\n\nUser: How many are 3 of them?\nAssistant: 3"
            yield f" {plain} So she makes ${written}."
            yield f" {plain} The answer is {written} dollars, that is {written}%."
            yield f" {plain} The answer is **{written}**"
            yield f" {plain} Of 7 it is x={written}, (or $-{written})"
            yield f" {plain} It is -${written}!"
            yield f" {plain} It is {written},"
    yield body[: len(body) // 2]
    yield plain[: len(plain) // 3]
    yield plain[: 2 * len(plain) // 3] + "\n#### "
    yield "I do not know."
    yield ""


def test_lm_eval_finds_the_same_right_and_wrong_in_every_realistic_text():
    """But where a text is cut after a fraction, one number here and two there, which is rare."""
    compared = fractions = 0
    verdicts = {"strict": [0, 0], "flexible": [0, 0]}
    for _, answer in real_problems()[::8]:
        for text in perturbed(answer):
            for rule, ours in (("strict", strict_answer), ("flexible", flexible_answer)):
                right = ours(text) == read_gold(answer)
                if right != lm_eval_is_right(rule, text, answer):
                    assert rule == "flexible", text
                    assert re.search("[0-9]/[0-9]+[^0-9]*$", text), text
                    fractions += 1
                verdicts[rule][right] += 1
                compared += 1
    assert compared > 20_000
    assert fractions < 5
    assert min(itertools.chain(*verdicts.values())) > 1000


@pytest.mark.parametrize(
    ("text", "gold", "strict", "flexible"),  # whether ours is right and lm-evaluation-harness's
    [
        ("#### 18.00", 18, (True, False), (True, False)),
        ("#### 018", 18, (True, False), (True, False)),
        ("#### 36/2", 18, (True, False), (True, False)),
        ("#### 36/2", 36, (False, True), (False, False)),
        ("It is 36/2", 2, (False, False), (False, True)),
        ("#### 18 1/2", 18, (False, True), (False, False)),
        ("It is −5", -5, (False, False), (True, False)),
        ("It is −5", 5, (False, False), (False, True)),
        ("#### 18...", 18, (True, False), (True, False)),
        ("#### 18 ...", 18, (True, True), (True, False)),
        ("#### 18 $.", 18, (True, True), (True, False)),
        ("#### 12/25/2020", 2020, (False, False), (False, True)),
        # No difference, though one might be expected.
        ("#### $18", 18, (False, False), (True, True)),
        ("#### 1,8", 18, (True, True), (True, True)),
        ("6-18", 18, (False, False), (False, False)),
        ("18 in 1.2.3", 18, (False, False), (False, False)),
    ],
)
def test_the_documented_differences_from_lm_eval(text, gold, strict, flexible):
    answer = f"So it is.\n#### {gold}"
    assert read_gold(answer) == gold
    assert (strict_answer(text) == gold, lm_eval_is_right("strict", text, answer)) == strict
    assert (flexible_answer(text) == gold, lm_eval_is_right("flexible", text, answer)) == flexible


def test_the_task_reads_answers_as_lm_evals_gsm8k_does():
    ours, theirs = lm_eval_task(), lm_eval_task_of_the_package()
    for field in (
        "filter_list",
        "metric_list",
        "doc_to_target",
        "output_type",
        "repeats",
        "test_split",
    ):
        assert ours[field] == theirs[field]
    assert ours["metadata"] == theirs["metadata"]


def generation(
    *segments: str | MulFact, ended="stopped", answer="#### 54", question="How many?", cluster="c"
) -> Generation:
    return Generation(question, answer, cluster, 10, len(segments), 96, ended, list(segments))


@pytest.mark.parametrize(
    ("segments", "answers"),  # strict, flexible, strict_stated, flexible_stated
    [
        ((FACT,), (None, None, None, 54)),
        ((" It is ", FACT, "."), (None, None, None, 54)),
        (("#### ", FACT), (None, None, 54, 54)),
        (("#### ", FACT, FACT), (None, None, 54, 54)),
        (("#### -", FACT), (None, None, None, 54)),
        (("####", FACT), (None, None, None, 54)),
        (("####", FACT, " 18"), (None, 18, None, 18)),
        (("#### 1", FACT, "8"), (1, 8, 1, 8)),
        (("#### ", FACT, "8"), (None, 8, 54, 8)),
        ((FACT, "\n#### 18"), (18, 18, 18, 18)),
        (("1 ", FACT, "1/2"), (None, Fraction(1, 2), None, Fraction(1, 2))),
        (("-", FACT, "5"), (None, 5, None, 5)),
        (("7", FACT), (None, 7, None, 54)),
        (("#### 7", FACT), (7, 7, 7, 54)),
        (("#### 54",), (54, 54, 54, 54)),
        ((), (None, None, None, None)),
        ((" 18", None), (None, 18, None, 18)),  # a reserved token
        (("#### 1", None, "8"), (1, 8, 1, 8)),
    ],
)
def test_a_fact_is_a_break_in_the_text_and_its_statement_in_what_is_stated(segments, answers):
    assert read(generation(*segments)) == (54, *answers)


def test_no_facts_name_gives_an_answer_where_lm_eval_reads_it(tmp_path, tokenizer):
    to_hugging_face(tokenizer, 64).save_pretrained(tmp_path)
    loaded = read_tokenizer(tmp_path, tokenizer.size)
    ids = {loaded.token_to_id(fact.token): fact for fact in MUL_FACTS}
    for token, fact in ids.items():
        tokens = [*loaded.encode("That is ").ids, token, token, *loaded.encode(" eggs\n####").ids]
        segments = FactTokenizer(loaded, tokenizer.end_of_text).segments(tokens)
        assert segments == ["That is ", fact, fact, " eggs\n####"]
        assert read(generation(*segments))[1:] == (None, None, None, fact.product)
        by_name = loaded.decode(tokens, skip_special_tokens=False)
        assert lm_eval_is_right("flexible", by_name, f"#### {fact.product}")
        assert flexible_answer(by_name) == fact.product  # so a stage must never read decoded names


@pytest.mark.parametrize("with_facts", [False, True])
def test_no_reserved_tokens_name_gives_an_answer(
    tmp_path, tokenizer, baseline_tokenizer, with_facts
):
    its = tokenizer if with_facts else baseline_tokenizer
    to_hugging_face(its, 64).save_pretrained(tmp_path)
    loaded = read_tokenizer(tmp_path, its.size)
    facts = FactTokenizer(loaded, its.end_of_text)
    without_text = [
        token
        for token in range(its.end_of_text, its.size)
        if not re.match("<MUL", loaded.id_to_token(token))
    ]
    assert len(without_text) == its.size - its.end_of_text - 45 * with_facts
    for token in without_text:
        segments = facts.segments([*loaded.encode("It is 18.").ids, token])
        assert segments == ["It is 18.", None]
        assert read(generation(*segments))[1:] == (None, 18, None, 18)


def mutations():
    yield (
        "facts vanish",
        "as_text",
        lambda segments: "".join(each for each in segments if isinstance(each, str)),
    )
    yield (
        "facts by name",
        "as_text",
        lambda segments: "".join(getattr(each, "token", each) for each in segments),
    )
    yield "facts stated as text", "as_text", as_stated
    yield "statements merge", "as_stated", lambda segments: "".join(map(str, segments))
    yield "facts unstated", "as_stated", as_text


@pytest.mark.parametrize(
    ("name", "place", "mutation"), [pytest.param(*each, id=each[0]) for each in mutations()]
)
def test_every_other_way_to_join_the_texts_would_be_noticed(monkeypatch, name, place, mutation):
    told_apart = generation("#### 1", FACT, "8 ", FACT)
    right = read(told_apart)
    assert right == (54, 1, 8, 1, 54)
    monkeypatch.setattr(answer_reading, place, mutation)
    assert read(told_apart) != right or read(generation("#### ", FACT))[1:] != (
        None,
        None,
        54,
        54,
    ), name


@given(
    st.lists(
        st.sampled_from(MUL_FACTS)
        | st.text(alphabet="0123456789.,$/- #\n", min_size=1, max_size=5),
        max_size=6,
    )
)
def test_no_number_of_the_text_reaches_across_a_fact(segments):
    runs = [
        list(run)
        for is_fact, run in itertools.groupby(segments, key=lambda each: isinstance(each, MulFact))
        if not is_fact
    ]
    apart = [flexible_answer("".join(run)) for run in runs if re.search("[0-9]", "".join(run))]
    assert flexible_answer(as_text(segments)) == ([None, *apart])[-1]
    assert strict_answer(as_text(segments)) in {
        None,
        *(strict_answer("".join(run)) for run in runs),
    }


def test_summary_counts_every_problem_once():
    made = [
        generation("#### 54", question="a", cluster="first"),
        generation("so 54.", question="b", cluster="second"),
        generation("#### ", FACT, question="c", cluster="first"),
        generation("#### 7", question="d", ended="cut"),
        generation("6 × 9 =", question="e", answer="#### 9", ended="cut"),
        generation("I do not know", FACT, FACT, question="f", answer="#### 53"),
        generation(question="g", ended="too_long"),
    ]
    metrics = summarize(made, list(map(read, made)))
    questions, clusters = list("abcdefg"), ["first", "second", "first", *"cccc"]
    assert list(metrics)[:4] == list(RULES)
    for rule, right in {
        "strict": "a",
        "flexible": "abe",
        "strict_stated": "ac",
        "flexible_stated": "abce",
    }.items():
        assert (
            metrics.pop(rule)
            == rate(np.array([name in right for name in questions]), clusters)._asdict()
        ), rule
    assert metrics == {
        "stopped": 4,
        "cut": 2,
        "too_long": 1,
        "most_new_tokens": 96,
        "facts": 2,
        "no_answer": {"strict": 4, "flexible": 2, "strict_stated": 3, "flexible_stated": 0},
    }


def test_generations_are_read_back_as_written(tmp_path):
    made = [
        generation("#### ", FACT, " ½\n"),
        generation(ended="too_long"),
        generation("6 × 9", ended="cut"),
    ]
    with checksummed_directory(tmp_path / "made") as output:
        write_generations(output / "generations.jsonl", made)
    assert read_generations(tmp_path / "made" / "generations.jsonl") == made
    assert "MUL" not in (tmp_path / "made" / "generations.jsonl").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"ended": "done"},
        {"segments": [[9, 6]]},
        {"segments": [[1, 2, 3]]},
        {"segments": [7]},
        {"new_tokens": "3"},
        {"new_tokens": -1},
        {"ended": "too_long"},
        {"extra": 1},
        {"question": None},
    ],
)
def test_a_line_that_is_no_generation_stops_the_stage(tmp_path, change):
    with checksummed_directory(tmp_path / "made") as output:
        row = generation("#### 54")._asdict()
        write_jsonl(output / "generations.jsonl", [row, row | change])
    with pytest.raises(PipelineError, match=r"generations\.jsonl:2: not a generation"):
        read_generations(tmp_path / "made" / "generations.jsonl")
