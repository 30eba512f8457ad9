import pytest

from model.documents import Document
from model.errors import PipelineError
from model.item_selection import continuation_items, sample_items
from model.items import Item
from model.params.items import ItemsParams

PARAMS = ItemsParams(hellaswag_count=None, continuation_count=50, context_words=4, ending_words=3, seed=0)


def documents(count: int) -> list[Document]:
    return [Document(" ".join(f"w{number}_{place}" for place in range(10)), "text") for number in range(count)]


def test_a_sample_is_seeded_ordered_and_not_the_first_items():
    items = continuation_items(documents(100), PARAMS.model_copy(update={"continuation_count": 100}))
    chosen = sample_items(items, 20, seed=0)
    assert chosen == sample_items(items, 20, seed=0)
    assert chosen != sample_items(items, 20, seed=1)
    assert [item.ind for item in chosen] == sorted(item.ind for item in chosen)
    assert chosen != items[:20]
    assert sample_items(items, None, seed=0) == items
    with pytest.raises(PipelineError, match=r"items\.hellaswag_count \(101\) exceeds the 100 items"):
        sample_items(items, 101, seed=0)


def test_the_label_names_the_documents_own_continuation():
    items = continuation_items(documents(50), PARAMS)
    assert len(items) == 50
    for item in items:
        source = item.ctx.split()[0].split("_")[0]
        assert item.endings[item.label] == " ".join(f"{source}_{place}" for place in (4, 5, 6))
        assert len(set(item.endings)) == 4
        assert {len(ending.split()) for ending in item.endings} == {3}
    assert {item.label for item in items} == {0, 1, 2, 3}


def test_short_documents_are_left_out_and_too_few_stop_the_stage():
    short = [Document("only three words", "text")] * 10
    five = PARAMS.model_copy(update={"continuation_count": 5})
    assert len(continuation_items([*documents(5), *short], five)) == 5
    with pytest.raises(PipelineError, match="4 held-out documents have 7 words, 5 are needed"):
        continuation_items([*documents(4), *short], five)
    with pytest.raises(PipelineError, match="3 held-out documents have 7 words, 4 are needed"):
        continuation_items([*documents(3), *short], PARAMS.model_copy(update={"continuation_count": 1}))


def test_an_item_has_four_endings_with_text():
    fields = continuation_items(documents(4), PARAMS.model_copy(update={"continuation_count": 1}))[0].model_dump()
    for endings in (["a", "b", "c"], ["a", "b", "c", ""]):
        with pytest.raises(ValueError, match="ending"):
            Item(**{**fields, "endings": endings})
