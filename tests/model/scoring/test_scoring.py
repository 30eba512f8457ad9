import math
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from gpt2_directories import ONE_PROCESS, plain_nats, real_items, save_gpt2, scored
from huggingface_hub import snapshot_download
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.tasks.hellaswag.utils import preprocess
from safetensors.torch import load_file, save_file
from scipy.stats import binomtest
from scored_models import own_gpt2, random_gpt2, require_equal, trained_gpt2  # noqa: F401
from tricky_items import ITEMS, LM_EVAL, REFERENCE

import model.scoring.network as scoring_network
from common.errors import PipelineError
from model.hugging_face.directory import PATTERNS, read_hugging_face_directory
from model.numerics.setting import set_numerics
from model.params.numerics import NumericsParams
from model.runtime.distributed import joined_processes
from model.runtime.torch_setup import require_dtype
from model.scoring.packing import ROWS_TOGETHER, batches, by_size, pack
from model.scoring.prefix_trees import Tree
from model.scoring.scorer import Scorer
from model.statistics.rates import rate
from model.tasks.item_scores import ItemScore, summarize
from model.tasks.wordings import WORDINGS

pytestmark = pytest.mark.slow("several networks score the same items in two ways", minutes=1.5)


@pytest.mark.parametrize("wording", WORDINGS.values(), ids=WORDINGS)
@pytest.mark.parametrize(
    ("layers", "heads", "width", "context"), [(1, 1, 16, 64), (2, 2, 32, 32), (3, 4, 64, 17)]
)
def test_random_models_score_as_the_plain_way_does(
    tmp_path, tokenizer, wording, layers, heads, width, context
):
    directory = save_gpt2(tmp_path, tokenizer, layers, heads, width, context)
    require_equal(directory, ITEMS, wording)


def test_onednns_products_score_as_the_plain_way_does(trained_gpt2, monkeypatch):
    monkeypatch.setattr(scoring_network, "onednn_is_faster", lambda: True)
    require_equal(trained_gpt2, real_items(10), REFERENCE)


def test_a_private_operator_that_computes_something_else_is_not_used(trained_gpt2, monkeypatch):
    monkeypatch.setattr(scoring_network, "onednn_is_faster", lambda: True)
    right = torch.ops.mkldnn._linear_pointwise
    monkeypatch.setattr(
        torch.ops.mkldnn, "_linear_pointwise", lambda x, *rest: right(x * 1.01, *rest)
    )
    with pytest.raises(RuntimeError, match="no longer computes"):
        scored(trained_gpt2, ITEMS, REFERENCE)


@pytest.mark.parametrize("onednn", [False, True])
def test_results_are_the_same_to_the_bit_for_any_budget_threads_and_company(
    trained_gpt2, monkeypatch, onednn
):
    monkeypatch.setattr(scoring_network, "onednn_is_faster", lambda: onednn)
    items = real_items(40)
    expected = scored(trained_gpt2, items, LM_EVAL, batch_tokens=10**6, threads=1)
    for batch_tokens, threads in ((1, 1), (700, 2), (5000, 3)):
        assert scored(trained_gpt2, items, LM_EVAL, batch_tokens, threads) == expected
    assert scored(trained_gpt2, items[::7], LM_EVAL) == expected[::7]
    assert scored(trained_gpt2, items[::-1], LM_EVAL) == expected[::-1]


def test_bfloat16_scores_are_near_those_of_float32(trained_gpt2):
    exact, rounded = (
        scored(trained_gpt2, real_items(20), REFERENCE, dtype=dtype)
        for dtype in ("float32", "bfloat16")
    )
    assert exact != rounded
    for one, other in zip(exact, rounded, strict=True):
        assert other.nats == pytest.approx(one.nats, rel=0.02)


def test_bfloat16_is_refused_where_there_is_no_arithmetic_for_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    for device in ("cpu", "cuda"):
        with pytest.raises(
            PipelineError, match=f"{device} has no bfloat16 arithmetic; set float32"
        ):
            require_dtype("params.yaml: evaluate.dtype", "bfloat16", device)
    require_dtype("params.yaml: evaluate.dtype", "float32", "cpu")


def test_what_is_counted_of_an_ending(random_gpt2):
    scores = scored(random_gpt2, ITEMS, REFERENCE)
    for asked, score in zip(ITEMS, scores, strict=True):
        assert (score.ind, score.label, score.source_id) == (
            asked.ind,
            asked.label,
            asked.source_id,
        )
        assert score.characters == [len(ending) for ending in asked.endings]
        whole = [len(ending.encode()) + 1 for ending in asked.endings]
        assert score.bytes == whole or asked.ind == 4
    cut = scores[4]  # its first ending is longer than the model's 32 positions
    assert cut.tokens[0] == 32
    assert cut.bytes[0] < 6 * 32 < len(ITEMS[4].endings[0])
    assert cut.bytes[1:] == [2, 2, 2]


def test_uniform_logits_cost_log_vocab_a_token(tmp_path, tokenizer):
    directory = save_gpt2(tmp_path, tokenizer, layers=1, heads=1, width=16, context=64)
    change_tensors(directory, lambda tensors: tensors["transformer.wte.weight"].zero_())
    for score in scored(directory, ITEMS, REFERENCE):
        assert score.nats == pytest.approx(
            [tokens * math.log(tokenizer.size) for tokens in score.tokens]
        )


def test_rows_whose_exponentials_overflow_score_as_the_plain_way_does(
    tmp_path, trained_gpt2, monkeypatch
):
    directory = shutil.copytree(trained_gpt2, tmp_path / "gpt2")
    change_tensors(directory, lambda tensors: tensors["transformer.ln_f.weight"].mul_(40))
    found = []
    totals = scoring_network.ScoringNetwork._totals
    monkeypatch.setattr(
        scoring_network.ScoringNetwork,
        "_totals",
        lambda self, hidden: found.append(totals(self, hidden)) or found[-1],
    )
    items = real_items(20)
    expected = scored(directory, items, REFERENCE)
    for one, plain in zip(expected, plain_nats(directory, items, REFERENCE), strict=True):
        assert one.nats == pytest.approx(plain, rel=1e-4)
    infinite = torch.cat(found).isinf()
    assert infinite.any()
    assert not infinite.all()
    assert scored(directory, items[::3], REFERENCE, batch_tokens=1) == expected[::3]


def test_another_network_gives_other_scores(random_gpt2, trained_gpt2):
    first, second = (
        scored(directory, ITEMS, REFERENCE) for directory in (random_gpt2, trained_gpt2)
    )
    assert all(one.nats != other.nats for one, other in zip(first, second, strict=True))


def test_questions_are_worded_as_lm_evaluation_harness_words_them():
    for asked in real_items(10042):
        question = LM_EVAL.question(asked)
        context = f"{asked.activity_label}: {asked.ctx_a} {asked.ctx_b.capitalize()}"
        assert question.context == preprocess(context)
        assert question.endings == [preprocess(ending) for ending in asked.endings]


words = st.lists(st.integers(0, 3), min_size=1, max_size=6)


@given(
    st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=4)), min_size=1, max_size=6),
    st.integers(1, 200),
)
def test_every_ending_is_found_again_in_what_is_packed(trees, budget):
    trees = [Tree(number, 0, context, endings) for number, (context, endings) in enumerate(trees)]
    seen = []
    for batch in batches(by_size(trees), budget, workers=2):
        seen += [tree.item for tree in batch]
        packed = pack(batch)
        read = {
            (tree.item, *tree.context[:place])
            for tree in batch
            for place in range(1, len(tree.context) + 1)
        } | {
            (tree.item, *tree.context, *ending[:place])
            for tree in batch
            for ending in tree.endings
            for place in range(1, len(ending))
        }
        rows = Counter(item for item, *_ in read)
        filled = sum(-(-count // ROWS_TOGETHER) * ROWS_TOGETHER for count in rows.values())
        assert len(packed.tokens) == filled, "what is shared is read once"
        firsts = [np.flatnonzero(packed.ending == n)[0] for n in range(packed.ending.max() + 1)]
        assert all(packed.predicted_by[first] % ROWS_TOGETHER == 0 for first in firsts)
        number = 0
        for tree in batch:
            for ending in tree.endings:
                of = packed.ending == number
                assert packed.targets[of].tolist() == ending
                rows = packed.predicting[packed.predicted_by[of]]
                assert packed.tokens[rows].tolist() == [tree.context[-1], *ending[:-1]]
                assert packed.positions[rows].tolist() == [
                    len(tree.context) - 1 + place for place in range(len(ending))
                ]
                number += 1
    assert sorted(seen) == list(range(len(trees)))


def change_tensors(directory, change) -> None:
    tensors = load_file(directory / "model.safetensors")
    result = change(tensors)
    save_file(
        result if isinstance(result, dict) else tensors,
        directory / "model.safetensors",
        metadata={"format": "pt"},
    )


def without(name: str):
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


FAULTS = {
    "a tensor is missing": (without("transformer.h.1.mlp.c_fc.bias"), "h.1.mlp.c_fc.bias"),
    "a tensor is unknown": (
        lambda tensors: {**tensors, "transformer.h.2.ln_1.bias": torch.zeros(32)},
        "h.2.ln_1.bias",
    ),
    "a tensor is misshapen": (
        lambda tensors: {**tensors, "transformer.h.0.mlp.c_fc.weight": torch.zeros(128, 32)},
        "c_fc",
    ),
    "a tensor is stored twice": (
        lambda tensors: {**tensors, "wte.weight": torch.zeros(576, 32)},
        "stored twice",
    ),
    "a tensor is no float": (
        lambda tensors: {**tensors, "transformer.ln_f.bias": torch.ones(32, dtype=torch.int8)},
        "ln_f.bias",
    ),
    "the head is not tied": (
        lambda tensors: {**tensors, "lm_head.weight": torch.zeros(576, 32)},
        "differs from wte.weight",
    ),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_weights_that_do_not_fit_are_refused(own_gpt2, change, message):
    change_tensors(own_gpt2, change)
    with pytest.raises(PipelineError, match=message):
        read_hugging_face_directory(own_gpt2)


def test_names_without_prefix_and_stored_masks_are_those_of_the_hubs_gpt2(own_gpt2):
    expected = scored(own_gpt2, ITEMS, REFERENCE)
    masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 32, 32) for layer in (0, 1)}
    change_tensors(
        own_gpt2,
        lambda tensors: (
            masks | {name.removeprefix("transformer."): t for name, t in tensors.items()}
        ),
    )
    assert scored(own_gpt2, ITEMS, REFERENCE) == expected


VARIANTS = {
    "activation_function": ('"gelu_new"', '"relu"'),
    "model_type": ('"gpt2"', '"gpt_neo"'),
    "scale_attn_by_inverse_layer_idx": ("false", "true"),
    "scale_attn_weights": ("true", "false"),
    "add_cross_attention": ("false", "true"),
    "tie_word_embeddings": ("true", "false"),
    "n_embd": ("32", '"32"'),
    "n_head": ("2", "3"),
    "n_layer": ("2", "0"),
    "num_attention_heads": None,
    "bos_token_id": ("512", "576"),
}


@pytest.mark.parametrize("key", VARIANTS)
def test_a_variant_of_gpt2_that_would_be_computed_wrongly_is_refused(own_gpt2, key):
    path = own_gpt2 / "config.json"
    text = path.read_text()
    if VARIANTS[key] is None:
        path.write_text(text.replace("{", f'{{"{key}": 1,', 1))
    else:
        old, new = VARIANTS[key]
        assert f'"{key}": {old}' in text
        path.write_text(text.replace(f'"{key}": {old}', f'"{key}": {new}'))
    with pytest.raises(PipelineError, match=key):
        read_hugging_face_directory(own_gpt2)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_file_that_is_missing_or_broken_is_named(own_gpt2, name):
    (own_gpt2 / name).write_text("{")
    with pytest.raises(PipelineError, match=name):
        read_hugging_face_directory(own_gpt2)
    if name == "config.json":
        (own_gpt2 / name).write_text("[]")
        with pytest.raises(PipelineError, match=name):
            read_hugging_face_directory(own_gpt2)
    (own_gpt2 / name).unlink()
    with pytest.raises(PipelineError, match=f"no {name}"):
        read_hugging_face_directory(own_gpt2)


def test_weights_that_are_no_numbers_give_no_score(own_gpt2):
    change_tensors(own_gpt2, lambda tensors: tensors["transformer.ln_f.bias"].fill_(math.nan))
    with pytest.raises(PipelineError, match="item 0: a log-likelihood is not a finite number"):
        scored(own_gpt2, ITEMS, REFERENCE)


def test_a_tokenizer_that_transformers_would_use_otherwise_is_refused(own_gpt2):
    path = own_gpt2 / "tokenizer_config.json"
    path.write_text(
        path.read_text().replace('"add_prefix_space": false', '"add_prefix_space": true')
    )
    with pytest.raises(PipelineError, match="add_prefix_space"):
        read_hugging_face_directory(own_gpt2)


def test_a_rank_without_its_company_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(PipelineError, match="RANK is 1 of a WORLD_SIZE of 1"), joined_processes():
        pass


def test_openais_gpt2_scores_what_is_published():
    """Its 10,042 items take about an hour of two CPU cores; sources: karpathy/build-nanogpt,
    lm-evaluation-harness.
    """
    for name in ("gpt2", "openai-community/gpt2"):
        try:
            directory = snapshot_download(name, allow_patterns=[*PATTERNS], local_files_only=True)
            break
        except FileNotFoundError:
            continue
    else:
        pytest.skip(
            "OpenAI's gpt2 is not in the local Hugging Face cache; huggingface-cli download gpt2"
            " brings it"
        )
    directory = Path(directory)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scorer = Scorer(
        read_hugging_face_directory(directory),
        device,
        "float32",
        set_numerics(NumericsParams(kernels="native", threads=os.cpu_count())),
        16384,
        ONE_PROCESS,
    )
    items = real_items(10042)
    for wording, acc, acc_norm in ((REFERENCE, 0.2859, 0.2955), (LM_EVAL, 0.2892, 0.3114)):
        metrics = summarize(scorer.score(items, wording, "gpt2"), wording)
        assert metrics["acc"]["rate"] == pytest.approx(acc, abs=0.0003)
        assert metrics["acc_norm"]["rate"] == pytest.approx(acc_norm, abs=0.0003)


def scores(
    nats: list[list[float]], labels: list[int], clusters: list[str] | None = None
) -> list[ItemScore]:
    return [
        ItemScore(
            n,
            clusters[n] if clusters else f"s{n}",
            label,
            row,
            [1, 2, 3, 4],
            [4, 4, 4, 4],
            [5, 5, 5, 5],
        )
        for n, (row, label) in enumerate(zip(nats, labels, strict=True))
    ]


def test_an_oracle_is_always_right_and_its_opposite_never():
    labels = [0, 1, 2, 3] * 10
    right = summarize(
        scores(
            [[0.5 if place == label else 50.0 for place in range(4)] for label in labels], labels
        ),
        REFERENCE,
    )
    assert right["acc"]["rate"] == right["acc_norm"]["rate"] == 1.0
    assert right["gold_bits_per_byte"] == pytest.approx(0.5 / math.log(2) / 5)
    wrong = summarize(
        scores(
            [[50.0 if place == label else 0.5 for place in range(4)] for label in labels], labels
        ),
        REFERENCE,
    )
    assert wrong["acc"]["correct"] == 0
    assert wrong["acc"]["total"] == 40


def test_random_scores_are_near_chance():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 4000).tolist()
    result = summarize(scores(generator.random((4000, 4)).tolist(), labels), LM_EVAL)["acc"]
    assert result["interval_95"][0] < 0.25 < result["interval_95"][1]


@pytest.mark.parametrize(("wording", "normed"), [(REFERENCE, 3), (LM_EVAL, 0)])
def test_each_convention_normalizes_by_its_own_length(wording, normed):
    # Totals prefer ending 0, means per token (1, 2, 3, 4 tokens) ending 3, means per character (4
    # each) ending 0.
    for label in range(4):
        result = summarize(scores([[4.0, 5.0, 6.0, 7.0]], [label]), wording)
        assert (result["acc"]["correct"], result["acc_norm"]["correct"]) == (
            label == 0,
            label == normed,
        )


@pytest.mark.parametrize(
    ("hits", "total"), [(0, 20), (1, 20), (250, 1000), (999, 1000), (1000, 1000)]
)
def test_without_clusters_the_interval_is_wilsons(hits, total):
    values = np.arange(total) < hits
    expected = binomtest(hits, total).proportion_ci(method="wilson")
    found = rate(values, [str(n) for n in range(total)])
    assert (found.correct, found.total, found.rate) == (hits, total, hits / total)
    assert found.interval_95 == pytest.approx((expected.low, expected.high), abs=0.2 / total)


@pytest.mark.parametrize("hits", ["some", "none", "all"])
def test_items_that_repeat_each_other_do_not_narrow_the_interval(hits):
    values = {
        "some": np.arange(100) % 3 == 0,
        "none": np.zeros(100, bool),
        "all": np.ones(100, bool),
    }[hits]
    alone = rate(values, [str(n) for n in range(100)]).interval_95
    repeated = rate(np.repeat(values, 4), [str(n // 4) for n in range(400)]).interval_95
    assert repeated == pytest.approx(alone, abs=0.003)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), min_size=1, max_size=40))
def test_an_interval_holds_its_rate(sample):
    found = rate(np.array([hit for hit, _ in sample]), [cluster for _, cluster in sample])
    low, high = found.interval_95
    assert 0 <= low <= found.rate + 1e-12
    assert found.rate - 1e-12 <= high <= 1
