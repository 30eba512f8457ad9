"""The example of docs/evaluation.md is scored as it says; tests/micro_graph scores it again."""

from worked_item import worked_item

from model.tasks.item_scores import is_acc_norm_right, is_acc_right, summarize
from model.tasks.wordings import WORDINGS


def test_the_worked_item_has_the_figures_that_the_document_states():
    item = worked_item()
    score = item.score
    assert score.characters == [len(ending) for ending in item.endings]
    assert item.quotients == [
        (f"{nats / tokens:.3f}", f"{nats / characters:.3f}")
        for nats, tokens, characters in zip(score.nats, score.tokens, score.characters, strict=True)
    ]
    bits = summarize([score], WORDINGS["reference"])["gold_bits_per_byte"]
    assert f"make {bits:.3f}" in item.section
    assert f"= {bits * score.bytes[score.label]:.2f} bits" in item.section


def test_the_worked_item_is_right_by_acc_and_wrong_by_acc_norm_of_tokens():
    score = worked_item().score
    assert is_acc_right([score]).tolist() == [True]
    assert is_acc_norm_right([score], WORDINGS["reference"]).tolist() == [False]
    assert is_acc_norm_right([score], WORDINGS["lm_eval"]).tolist() == [True]
