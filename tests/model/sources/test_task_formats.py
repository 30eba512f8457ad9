"""Records of each format as items; the texts are held to the harness in tests/references."""

from pathlib import Path

import pytest

from common.errors import PipelineError
from model.data.items import Item, read_items
from model.sources.task_formats import FORMATS, PUBLISHED, is_item, item_fields

OWN = {"context": "one, two,", "endings": ["three", "one"], "label": 0}
BLANK = {
    "sentence": "Ann thanked Bo because _ had helped.",
    "option1": "Ann",
    "option2": "Bo",
    "answer": "2",
}


def read(name: str, *records: dict) -> list[Item]:
    return read_items(Path("a.jsonl"), records, item_fields(name), as_published=name in PUBLISHED)


def refused(name: str, *records: dict) -> str:
    with pytest.raises(PipelineError) as caught:
        read(name, *records)
    message = str(caught.value)
    assert message.isprintable()
    return message.removeprefix("a.jsonl: ")


def test_a_record_of_ones_own_is_an_item():
    second = {**OWN, "context": "two, three,", "source_id": "numbers"}
    first, other = read("choices", OWN, second)
    assert (first.ctx, first.endings, first.label) == ("one, two,", ["three", "one"], 0)
    assert (first.ind, first.source_id, other.source_id) == (0, "item 0", "numbers")
    with_options = {**OWN, "options": ["a", "b"], "endings": ["same", "same"]}
    assert read("choices", with_options)[0].texts() == [
        ("one, two,a", ["same"]),
        ("one, two,b", ["same"]),
    ]


@pytest.mark.parametrize("count", [2, 3, 5, 26])
def test_an_item_has_any_number_of_endings_from_two(count):
    [item] = read(
        "choices", {**OWN, "endings": [f"n{n}" for n in range(count)], "label": count - 1}
    )
    assert len(item.endings) == count


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"endings": ["three"]}, "endings: has 1; an item has at least 2 endings"),
        ({"endings": ["a", "a"]}, "endings: 0 and 1 ('a') are the same"),
        ({"endings": ["a", " "]}, "endings: 1 (' ') has no text"),
        ({"label": 2}, "label: must be below 2, the number of endings, got 2"),
        ({"label": "one"}, "label: Input should be a valid integer"),
        ({"label": None}, "label: is not given (None)"),
        ({"options": ["a"]}, "endings: has 2, and options has 1; give one each"),
        ({"options": ["a", "a"], "endings": ["b", "b"]}, "endings: 0 and 1 ('b') are the same"),
        ({"answer": 0}, "has answer; the keys are context, options, endings, label, source_id"),
        ({"source_id": ""}, "source_id: has no text"),
    ],
)
def test_a_record_that_is_none_is_one_line(change, message):
    assert refused("choices", {**OWN, "context": "x"}, {**OWN, **change}).startswith(
        f"record 1: {message}"
    )


def test_a_key_that_lacks_is_named():
    found = refused("choices", {"context": "a", "endings": ["b", "c"]})
    assert found == "record 0: has no 'label', as a record of format choices has"


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_record_of_another_benchmark_is_one_line(name):
    for record in (OWN, {"doc": None}, {**dict.fromkeys(OWN), "choices": 3, "question": 1}, {}):
        assert refused(name, record).startswith("record 0: ")


def test_a_blanks_options_end_the_contexts_and_the_ending_is_one():
    [item] = read("winogrande", BLANK)
    assert item.texts() == [
        ("Ann thanked Bo because Ann", ["had helped."]),
        ("Ann thanked Bo because Bo", ["had helped."]),
    ]
    assert item.label == 1


def test_the_wheels_records_are_one_for_each_option():
    records = [{"doc": BLANK, "idx": index} for index in (0, 1)]
    assert read("winogrande", *filter(is_item, records)) == read("winogrande", BLANK)
    assert is_item({"idx": 3, "context": "COPA has a number of this name"})


def test_a_benchmark_is_taken_as_it_was_published():
    """Social IQa has five items with two equal endings; the harness scores them."""
    record = {
        "context": "Bo ran.",
        "question": "Why?",
        "label": "1",
        "answerA": "ok",
        "answerB": "ok",
        "answerC": "late",
    }
    assert len(read("social_iqa", record, record)) == 2
    assert set(FORMATS) - PUBLISHED == {"choices", "hellaswag"}


SOCIAL = {"context": "a", "question": "b", "answerA": "c", "answerB": "d", "answerC": "e"}
CAUSE = {"premise": "It rained.", "choice1": "A.", "choice2": "B.", "label": 0, "idx": 0}


@pytest.mark.parametrize(
    ("name", "record", "why"),
    [
        ("winogrande", {**BLANK, "answer": ""}, "label: is not given ('')"),
        ("winogrande", {**BLANK, "answer": "3"}, "its true answer, '3', is not one of 1, 2"),
        ("winogrande", {**BLANK, "sentence": "Ann thanked Bo."}, "has no blank, _, in its"),
        ("social_iqa", {**SOCIAL, "label": ""}, "label: is not given ('')"),
        ("social_iqa", {**SOCIAL, "label": "0"}, "its true answer, '0', is not one of 1, 2, 3"),
        ("copa", {**CAUSE, "question": "Cause"}, "asks 'Cause', and neither cause nor effect"),
    ],
)
def test_a_record_without_a_true_answer_says_so(name, record, why):
    assert why in refused(name, record)
