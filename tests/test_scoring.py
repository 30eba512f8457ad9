import math

import numpy as np
import pytest
import torch
from conftest import random_gpt
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from model.checkpoints import read_checkpoint
from model.hf import build_hugging_face_model, export_table, hugging_face_config, map_tensors
from model.hf_tokenizer import to_hugging_face
from model.item_scores import ItemScore, summarize
from model.items import Item
from model.scoring import score_items
from model.stats import rate


@pytest.fixture(scope="session")
def hf_tokenizer(tokenizer):
    return to_hugging_face(tokenizer, context=32)


@pytest.fixture
def hf_model(checkpoint):
    config, tensors = read_checkpoint(checkpoint)
    return build_hugging_face_model(hugging_face_config(config.network, 512), map_tensors(tensors, export_table(2)))


def item(ctx: str, endings: list[str], number: int = 0, label: int = 0) -> Item:
    return Item(ind=number, activity_label="", ctx_a=ctx, ctx_b="", ctx=ctx, endings=endings, label=label, source_id=f"s{number}")


ITEMS = [
    item("A man", ["runs fast", "sits", "a", "jumps over the fence"], 0),
    item("The water is", ["cold.", "hot!", "naïve 🎉", "x"], 1, label=3),
    item("", ["Starts here", "and there", "b", "c c c"], 2, label=2),
    item("word " * 40, ["one two", "three", "four five six", "seven"], 3, label=1),
    item("short", ["long " * 40, "b", "c", "d"], 4),
    item("He said that", ["it", "is", "so", "ok"], 5),
]


@torch.no_grad()
def plain_nats(model, tokenizer, scored: Item) -> list[float]:
    """The reference: one ending at a time, the whole output layer, lm-evaluation-harness's rule of truncation."""
    results = []
    for ending in scored.endings:
        context = tokenizer.encode(scored.ctx) or [tokenizer.eos_token_id]
        continuation = tokenizer.encode(f" {ending}")
        tokens = (context + continuation)[-(model.config.n_positions + 1) :]
        continuation = continuation[-(len(tokens) - 1) :]
        log_probabilities = model(torch.tensor([tokens[:-1]])).logits[0].double().log_softmax(-1)
        places = range(len(tokens) - 1 - len(continuation), len(tokens) - 1)
        results.append(-sum(log_probabilities[place, tokens[place + 1]].item() for place in places))
    return results


@pytest.mark.parametrize("batch_tokens", [1, 100, 4096])
def test_scores_equal_the_plain_ones_item_by_item(hf_model, hf_tokenizer, batch_tokens):
    for scored, score in zip(ITEMS, score_items(hf_model, hf_tokenizer, ITEMS, batch_tokens, "test"), strict=True):
        assert score.nats == pytest.approx(plain_nats(hf_model, hf_tokenizer, scored), abs=1e-3)
        assert (score.ind, score.label, score.source_id) == (scored.ind, scored.label, scored.source_id)
        assert score.characters == [len(ending) for ending in scored.endings]
        whole = [len(ending.encode()) + 1 for ending in scored.endings]
        assert score.bytes == whole or scored.ind == 4
    cut = score_items(hf_model, hf_tokenizer, ITEMS[4:5], batch_tokens, "test")[0]
    assert cut.tokens[0] == 32
    assert cut.bytes[0] < 6 * 32 < len(ITEMS[4].endings[0])
    assert cut.bytes[1:] == [2, 2, 2]


def test_uniform_logits_cost_log_vocab_a_token(hf_model, hf_tokenizer):
    with torch.no_grad():
        hf_model.transformer.wte.weight.zero_()
    for score in score_items(hf_model, hf_tokenizer, ITEMS, 4096, "test"):
        assert score.nats == pytest.approx([tokens * math.log(576) for tokens in score.tokens])


def scores(nats: list[list[float]], labels: list[int], clusters: list[str] | None = None) -> list[ItemScore]:
    return [
        ItemScore(n, clusters[n] if clusters else f"s{n}", label, row, [1, 2, 3, 4], [4, 4, 4, 4], [5, 5, 5, 5])
        for n, (row, label) in enumerate(zip(nats, labels, strict=True))
    ]


def test_an_oracle_is_always_right_and_its_opposite_never():
    labels = [0, 1, 2, 3] * 10
    right = summarize(scores([[0.5 if place == label else 50.0 for place in range(4)] for label in labels], labels))
    assert right["acc"]["rate"] == right["acc_norm"]["rate"] == right["acc_norm_characters"]["rate"] == 1.0
    assert right["gold_bits_per_byte"] == pytest.approx(0.5 / math.log(2) / 5)
    wrong = summarize(scores([[50.0 if place == label else 0.5 for place in range(4)] for label in labels], labels))
    assert wrong["acc"]["correct"] == 0
    assert wrong["acc"]["total"] == 40


def test_random_scores_are_near_chance():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 4000).tolist()
    result = summarize(scores(generator.random((4000, 4)).tolist(), labels))["acc"]
    assert result["interval_95"][0] < 0.25 < result["interval_95"][1]


def test_the_three_accuracies_normalize_as_they_say():
    # Totals prefer ending 0, means per token (1, 2, 3, 4 tokens) ending 3, means per character (4 each) ending 0.
    result = summarize(scores([[4.0, 5.0, 6.0, 7.0]], [3]))
    assert (result["acc"]["correct"], result["acc_norm"]["correct"], result["acc_norm_characters"]["correct"]) == (0, 1, 0)


@pytest.mark.parametrize(("hits", "total"), [(0, 20), (1, 20), (250, 1000), (999, 1000), (1000, 1000)])
def test_without_clusters_the_interval_is_wilsons(hits, total):
    values = np.arange(total) < hits
    expected = binomtest(hits, total).proportion_ci(method="wilson")
    found = rate(values, [str(n) for n in range(total)])
    assert (found.correct, found.total, found.rate) == (hits, total, hits / total)
    assert found.interval_95 == pytest.approx((expected.low, expected.high), abs=0.2 / total)


def test_items_that_repeat_each_other_do_not_narrow_the_interval():
    values = np.arange(100) % 3 == 0
    alone = rate(values, [str(n) for n in range(100)]).interval_95
    repeated = rate(np.repeat(values, 4), [str(n // 4) for n in range(400)]).interval_95
    assert repeated == pytest.approx(alone, abs=0.003)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), min_size=1, max_size=40))
def test_an_interval_holds_its_rate(sample):
    found = rate(np.array([hit for hit, _ in sample]), [cluster for _, cluster in sample])
    low, high = found.interval_95
    assert 0 <= low <= found.rate + 1e-12
    assert found.rate - 1e-12 <= high <= 1


def test_another_network_gives_other_scores(hf_model, hf_tokenizer, network):
    other = random_gpt(network, seed=5)
    tensors = {name: tensor for name, tensor in other.state_dict().items() if name != "lm_head.weight"}
    changed = build_hugging_face_model(hugging_face_config(network, 512), map_tensors(tensors, export_table(2)))
    first, second = (score_items(model, hf_tokenizer, ITEMS, 4096, "test") for model in (hf_model, changed))
    assert all(a.nats != b.nats for a, b in zip(first, second, strict=True))
