from pathlib import Path

import numpy as np
import pytest
import yaml
from gpt2_directories import real_items
from hypothesis import given
from hypothesis import strategies as st
from mutations import reads_or_says_why

from common.errors import PipelineError
from common.files import checksummed_directory, write_jsonl
from model.data import items as items_module
from model.data.documents import Document, DocumentWriter
from model.data.items import Item, count_repeated, read_items
from model.params.items import ItemsParams
from model.tasks.item_scores import ItemScore, summarize
from model.tasks.item_selection.continuation import continuation_items
from model.tasks.item_selection.sample import sample_items
from model.tasks.wordings import WORDINGS
from stages import items as stage

PARAMS = ItemsParams(context_words=4, ending_words=3, seed=0)


def documents(count: int) -> list[Document]:
    return [
        Document(" ".join(f"w{number}_{place}" for place in range(10)), "text")
        for number in range(count)
    ]


def test_a_sample_is_seeded_ordered_and_not_the_first_items():
    items = continuation_items(documents(100), 100, PARAMS)
    chosen = sample_items(items, 20, 0, "asked")
    assert chosen == sample_items(items, 20, 0, "asked")
    assert chosen != sample_items(items, 20, 1, "asked")
    assert [item.ind for item in chosen] == sorted(item.ind for item in chosen)
    assert chosen != items[:20]
    assert sample_items(items, "all", 0, "asked") == items
    with pytest.raises(
        PipelineError, match=r"tasks\.hellaswag\.asked \(101\) exceeds the 100 items"
    ):
        sample_items(items, 101, 0, "tasks.hellaswag.asked")


def test_the_label_names_the_documents_own_continuation():
    items = continuation_items(documents(50), 50, PARAMS)
    assert len(items) == 50
    for item in items:
        source = item.ctx.split()[0].split("_")[0]
        assert item.endings[item.label] == " ".join(f"{source}_{place}" for place in (4, 5, 6))
        assert len(set(item.endings)) == 4
        assert {len(ending.split()) for ending in item.endings} == {3}
    assert {item.label for item in items} == {0, 1, 2, 3}


def test_short_documents_are_left_out_and_too_few_stop_the_stage():
    short = [Document("only three words", "text")] * 10
    assert len(continuation_items([*documents(5), *short], 5, PARAMS)) == 5
    with pytest.raises(PipelineError, match="4 held-out documents have 7 words, 5 are needed"):
        continuation_items([*documents(4), *short], 5, PARAMS)
    with pytest.raises(PipelineError, match="3 held-out documents have 7 words, 4 are needed"):
        continuation_items([*documents(3), *short], 1, PARAMS)


def test_continuations_that_documents_share_are_asked_once_an_item():
    """A footer that many documents have made four equal endings of which one was right."""
    words = " ".join(f"w{place}" for place in range(4))
    footer = [
        Document(f"a{number} {words[3:]} all rights reserved", "text") for number in range(30)
    ]
    items = continuation_items([*documents(20), *footer], 50, PARAMS)
    assert len(items) == 50
    assert all(len(set(item.endings)) == 4 for item in items)
    shared = [item for item in items if item.endings[item.label] == "all rights reserved"]
    assert len(shared) == 30
    with pytest.raises(
        PipelineError,
        match=r"2 other continuations than 'all rights reserved', 3 are needed; raise",
    ):
        continuation_items([*documents(2), *footer], 30, PARAMS)


def test_continuations_without_text_are_left_out():
    blank = [
        Document("a b c d \u200b \u2060 \u200b", "text"),
        Document("a b c d [all rights reserved]", "text"),
    ]
    alike = [Document("a b c d [1] e f", "text"), Document("a b c d e [2] f", "text")]
    items = continuation_items([*documents(10), *blank, *alike], 12, PARAMS)
    assert len(items) == 12
    with pytest.raises(PipelineError, match="12 held-out documents have 7 words, 13 are needed"):
        continuation_items([*documents(10), *blank, *alike], 13, PARAMS)


ENDINGS = ["kneads the dough.", "sings to the cat.", "opens an umbrella.", "drives to the sea."]
GOOD = {
    "ind": 0,
    "activity_label": "Baking bread",
    "ctx_a": "A baker puts flour on a table.",
    "ctx_b": "she",
    "ctx": "A baker puts flour on a table. she",
    "endings": ENDINGS,
    "label": 0,
    "source_id": "s0",
}
# Empty or blank in one wording or in both.
NO_TEXT = [
    "",
    " ",
    "\n",
    "\xa0",
    "\u200b",
    "\ufeff",
    "\u2060 \u00ad",
    "\u3164",
    "\0",
    "[a]",
    "[music]",
    "[title]",
    " [title] ",
    "[]",
    "[a][b]",
    "[a] [b]",
    "[a]  [b]\n",
    "\u200b[a]",
    "[a]\u200b",
    "[[a]",
    "[\xa0]\xa0",
]
# Two endings that are one text in one wording or in both.
ALIKE = [
    ("sings.", "sings."),
    ("sings.", " sings.\n"),
    ("sings to.", "sings  to."),
    ("sings.", "sings\u200b."),
    ("sings a", "sings\xa0a"),
    ("sings.", "[step] sings."),
    ("sings [a].", "sings [b]."),
    ("a [title] b", "a. b"),
    ("café", "cafe\u0301"),
]


def refused(*records: dict) -> str:
    """Return what reading `records` says; it has to be one line that names the file."""
    with pytest.raises(PipelineError) as caught:
        read_items(Path("a.jsonl"), records)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith("a.jsonl: record ")
    return message.removeprefix("a.jsonl: ")


def scores(item: Item) -> list[dict]:
    """Score an item with uniform logits in both wordings, and make the metrics."""
    found = []
    for wording in WORDINGS.values():
        question = wording.question(item)
        endings = [ending for _, continuations in question.split() for ending in continuations]
        counts = {
            "tokens": [1 + len(text.split()) for text in endings],
            "bytes": [len(text.encode()) for text in endings],
        }
        score = ItemScore(
            item.ind,
            item.source_id,
            item.label,
            [float(n) for n in counts["tokens"]],
            characters=list(map(len, question.endings)),
            **counts,
        )
        found.append(summarize([score, score._replace(source_id="other")], wording))
    return found


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("text", NO_TEXT, ids=ascii)
def test_an_ending_without_text_in_either_wording_is_refused(text, place):
    endings = [*ENDINGS[:place], text, *ENDINGS[place + 1 :]]
    message = refused(GOOD, {**GOOD, "source_id": "s1", "endings": endings})
    assert message.startswith(f"record 1: endings: {place} (")
    assert "has no text" in message


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=ascii)
def test_two_endings_that_are_one_text_in_either_wording_are_refused(one, other):
    for label in range(4):
        message = refused({**GOOD, "endings": ["kneads.", one, "drives.", other], "label": label})
        assert message.startswith("record 0: endings: 1 and 3 (")
        assert "are the same" in message


def test_four_equal_endings_are_refused():
    assert (
        refused({**GOOD, "endings": ["kneads."] * 4})
        == "record 0: endings: 0 and 1 ('kneads.') are the same"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"ctx": "", "ctx_a": "", "ctx_b": "", "activity_label": ""},
        {"ctx": " ", "ctx_a": " ", "ctx_b": " "},
        {"ctx": "A \0 b"},
        {"ctx": "flour " * 3000},
        {"ctx": "A baker. "},
        {"ctx": "[header] A"},
        {"endings": ["long " * 3000, *ENDINGS[1:]]},
        {"endings": [".", "..", "A", "a"]},
        {"endings": ["👍", "👎", "½", "[a] b"]},
        {"endings": ["a]", "[b", "]c[", "title"]},
    ],
)
def test_an_item_that_is_read_can_be_scored(change):
    [item] = read_items(Path("a.jsonl"), [{**GOOD, **change}])
    for metrics in scores(item):
        assert all(np.isfinite(metrics[name]["rate"]) for name in ("acc", "acc_norm"))
        assert np.isfinite(metrics["gold_bits_per_byte"])


@given(
    endings=st.lists(
        st.text(alphabet="[] \n\xa0\u200bab.", max_size=8) | st.text(max_size=4),
        min_size=4,
        max_size=4,
    )
)
def test_whatever_item_is_read_has_four_different_endings_to_score(endings):
    record = {**GOOD, "endings": endings}
    if not reads_or_says_why(
        lambda: read_items(Path("a.jsonl"), [record]), "a.jsonl: record 0: endings"
    ):
        return
    [item] = read_items(Path("a.jsonl"), [record])
    for wording in WORDINGS.values():
        assert len({ending.strip() for ending in wording.question(item).endings} - {""}) == 4
    scores(item)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"endings": ENDINGS[:1]},
            "endings: has 1; an item has at least 2 endings",
        ),
        ({"endings": [*ENDINGS[:3], None]}, "endings.3: Input should be a valid string"),
        ({"label": 4}, "label: must be below 4, the number of endings"),
        ({"label": "4"}, "label: must be below 4, the number of endings"),
        ({"label": -2}, "label: Input should be greater than or equal to 0"),
        ({"label": "²"}, "label: Input should be a valid integer"),
        ({"label": " 1"}, "label: Input should be a valid integer"),
        ({"label": 1.0}, "label: Input should be a valid integer"),
        ({"label": True}, "label: Input should be a valid integer"),
        ({"label": ""}, "label: is not given (''), as in a test split; take the validation split"),
        ({"label": -1}, "label: is not given (-1), as in a test split; take the validation split"),
        (
            {"label": None},
            "label: is not given (None), as in a test split; take the validation split",
        ),
        ({"ctx": None}, "ctx: Input should be a valid string"),
        ({"source_id": " "}, "source_id: has no text"),
        ({"source_id": 3}, "source_id: Input should be a valid string"),
        (
            {"ctx": "a \ud83d"},
            "ctx: has half a surrogate pair, \\ud83d at character 2; repair the file",
        ),
        (
            {"endings": ["\udc00", *ENDINGS[1:]]},
            "endings.0: has half a surrogate pair, \\udc00 at character 0; repair the file",
        ),
        (
            {"source_id": "\ud800"},
            "source_id: has half a surrogate pair, \\ud800 at character 0; repair the file",
        ),
    ],
)
def test_an_item_that_is_none_is_one_line(change, message):
    told, _, _ = refused(GOOD, {**GOOD, "source_id": "s1", **change}).partition(", got ")
    assert told == f"record 1: {message}"


@pytest.mark.parametrize(
    "endings", ["abcd", None, {"0": "a"}, [["a"], *ENDINGS[1:]], [None, *ENDINGS[1:]]]
)
def test_endings_that_are_no_list_of_texts_are_one_line(endings):
    assert refused({**GOOD, "endings": endings}).startswith("record 0: endings")


def test_a_task_in_another_schema_is_told_which_is_read():
    other = {"goal": "Bake", "sol1": "a", "sol2": "b", "label": 1}
    missing = "ind, activity_label, ctx_a, ctx_b, ctx, endings, source_id"
    schema = "ind, activity_label, ctx_a, ctx_b, ctx, endings, label, source_id"
    assert (
        refused(other)
        == f"record 0: has no {missing}; items are read in HellaSwag's schema ({schema})"
    )


@pytest.mark.parametrize("record", [None, 5, "ind", ["ind"], [GOOD]])
def test_a_record_that_is_no_object_is_one_line(record):
    assert refused(GOOD, record) == "record 1: is no JSON object"


@pytest.mark.parametrize("label", [0, 3, "0", "3"])
def test_a_label_is_a_number_or_its_digit(label):
    [item] = read_items(Path("a.jsonl"), [{**GOOD, "label": label, "split": "val"}])
    assert item.label == int(label)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"ind": 9},
        {"label": 2},
        {"endings": ENDINGS[::-1]},
        {"ctx": " A baker puts flour\non a table. she\u200b"},
    ],
)
def test_the_same_item_twice_is_refused(change):
    other = {**GOOD, "ind": 1, "ctx": "He", "source_id": "s1"}
    assert (
        refused(GOOD, other, {**GOOD, **change})
        == "record 2: the same item as record 0; keep one of them"
    )


def test_items_of_one_source_may_share_a_context_and_items_of_two_a_text():
    records = [GOOD, {**GOOD, "endings": ["a", "b", "c", "d"]}, {**GOOD, "source_id": "s1"}]
    items = read_items(Path("a.jsonl"), records)
    assert len(items) == 3
    assert count_repeated(items) == 1


def test_the_real_items_are_all_different():
    items = real_items(10_042)
    assert len(items) == 10_042
    assert count_repeated(items) == 0


@pytest.mark.parametrize(
    ("name", "mutation", "endings"),
    [
        ("brackets stay", lambda text: text, ["[a]", *ENDINGS[1:]]),
        ("brackets stay", lambda text: text, ["x [a]", "x [b]", *ENDINGS[2:]]),
    ],
)
def test_a_check_without_the_clean_up_would_be_noticed(monkeypatch, name, mutation, endings):
    refused({**GOOD, "endings": endings})
    monkeypatch.setattr(items_module, "without_brackets", mutation)
    [item] = read_items(Path("a.jsonl"), [{**GOOD, "endings": endings}])
    monkeypatch.undo()
    asked = WORDINGS["lm_eval"].question(item).endings
    assert len({text.strip() for text in asked} - {""}) < 4
    if "" in asked:
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            scores(item)


def test_a_check_of_visible_text_that_only_strips_would_be_noticed(monkeypatch):
    monkeypatch.setattr(items_module, "visible", str.strip)
    assert read_items(Path("a.jsonl"), [{**GOOD, "endings": ["\u200b", *ENDINGS[1:]]}])


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with what the items stage reads.

    Returns a function that runs the stage with other parameters.
    """
    monkeypatch.chdir(tmp_path)
    with checksummed_directory(tmp_path / "data/raw/tasks") as output:
        rows = [
            {**GOOD, "ctx": f"{number} she", "source_id": f"s{number // 19}"}
            for number in range(20)
        ]
        write_jsonl(output / "hellaswag.jsonl", rows)
    with (
        checksummed_directory(tmp_path / "data/corpus") as output,
        DocumentWriter(output, "val", 10**6) as writer,
    ):
        for document in documents(10):
            writer.append(document)

    def run(hellaswag: int | str, continuation: int):
        asked = {"hellaswag": hellaswag, "continuation": continuation}
        tasks = {name: {"asked": n, "wordings": ["reference"]} for name, n in asked.items()}
        Path("params.yaml").write_text(
            yaml.safe_dump({"items": PARAMS.model_dump(), "tasks": tasks})
        )
        stage.main()

    return run


def test_a_sample_of_one_source_stops_the_items_stage(project):
    """Which the file's own two sources do not tell: a sample may take all its items from one."""
    with pytest.raises(
        PipelineError, match=r"items: hellaswag: .*2 items .*of one source .*s0.*two.*[^\n]$"
    ):
        project(hellaswag=2, continuation=5)
    assert not Path("data/items").exists()


def test_a_sample_of_two_sources_is_written(project):
    project(hellaswag="all", continuation=2)
    assert len(Path("data/items/hellaswag.jsonl").read_text().splitlines()) == 20
    assert len(Path("data/items/continuation.jsonl").read_text().splitlines()) == 2
