"""Hugging Face's GPT-2 in our network: the same logits, and a line for whatever it cannot hold."""

import json
import subprocess
import sys

import pytest
import torch
from gpt2_directories import save_gpt2
from repository import REPOSITORY
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from common.errors import PipelineError
from common.files import write_checksums
from model.export import weight_map
from model.export.weight_map import (
    build_hugging_face_model,
    export_table,
    hugging_face_config,
    map_tensors,
)
from model.network.checkpoints import load_model, read_checkpoint
from tools import check_import
from tools.hf_import import import_table, read_gpt2

pytestmark = pytest.mark.slow(
    "transformers computes the logits, and each run of the tool imports it", minutes=0.2
)

TOKENS = torch.randint(0, 576, (2, 32), generator=torch.Generator().manual_seed(5))
CAUSAL = torch.ones(1, 1, 32, 32).tril()


@pytest.fixture
def gpt2(tmp_path, tokenizer):
    return save_gpt2(tmp_path / "gpt2", tokenizer, layers=2, heads=2, width=32, context=32)


@torch.no_grad()
def max_abs_logit_difference(directory) -> float:
    """Between our network and transformers', each with the directory as it reads it."""
    theirs = GPT2LMHeadModel.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True
    ).eval()
    return (read_gpt2(directory)(TOKENS) - theirs(TOKENS).logits).abs().max().item()


def change_tensors(directory, change) -> None:
    path = directory / "model.safetensors"
    save_file(
        {name: tensor.contiguous() for name, tensor in change(load_file(path)).items()},
        path,
        metadata={"format": "pt"},
    )


def change_config(directory, **changes) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def as_on_the_hub(tensors):
    """The layout of OpenAI's gpt2 on the hub: GPT2Model's names, and each block's mask."""
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()} | masks(
        "h.{}.attn.bias", CAUSAL
    )


def with_head(tensors):
    return {**tensors, "lm_head.weight": tensors["transformer.wte.weight"].clone()}


def masks(name: str, mask: torch.Tensor) -> dict[str, torch.Tensor]:
    return {name.format(layer): mask.clone() for layer in range(2)}


LAYOUTS = {
    "as save_pretrained writes it": lambda tensors: tensors,
    "as the hub has it": as_on_the_hub,
    "masks of bytes and the number that hides": lambda tensors: (
        tensors
        | masks("transformer.h.{}.attn.bias", CAUSAL.to(torch.uint8))
        | masks("transformer.h.{}.attn.masked_bias", torch.tensor(-1e4))
    ),
    "masks and the number that hides in brain floats": lambda tensors: (
        {name: tensor.bfloat16() for name, tensor in tensors.items()}
        | masks("transformer.h.{}.attn.bias", CAUSAL.bool())
        | masks("transformer.h.{}.attn.masked_bias", torch.tensor(-1e4).bfloat16())
    ),
    "the head a second time": lambda tensors: with_head(tensors),
    "the hub's with a head": lambda tensors: as_on_the_hub(with_head(tensors)),
    "in half precision": lambda tensors: {name: tensor.half() for name, tensor in tensors.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_gives_the_logits_that_transformers_gives(gpt2, layout):
    change_tensors(gpt2, layout)
    assert max_abs_logit_difference(gpt2) < 1e-5


@pytest.mark.parametrize(("layers", "heads", "width"), [(1, 1, 16), (3, 4, 64)])
def test_every_shape_gives_the_logits_that_transformers_gives(
    tmp_path, tokenizer, layers, heads, width
):
    assert (
        max_abs_logit_difference(save_gpt2(tmp_path, tokenizer, layers, heads, width, context=32))
        < 1e-5
    )


def test_settings_that_only_training_reads_are_free(gpt2):
    change_config(gpt2, attn_pdrop=0.1, embd_pdrop=0.1, resid_pdrop=0.1, n_ctx=32, n_inner=128)
    assert max_abs_logit_difference(gpt2) < 1e-5


def test_an_export_comes_back_to_the_bit(checkpoint, tmp_path):
    config, tensors = read_checkpoint(checkpoint)
    model = build_hugging_face_model(
        hugging_face_config(config.network, 512), map_tensors(tensors, export_table(2))
    )
    model.save_pretrained(tmp_path / "export")
    back = read_gpt2(tmp_path / "export")
    assert back.config == config.network
    assert back.lm_head.weight is back.transformer.wte.weight
    ours = load_model(config, tensors).state_dict()
    assert back.state_dict().keys() == ours.keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in back.state_dict().items())


def untransposed(part: str):
    return tuple((name, transposed and name != part) for name, transposed in weight_map._BLOCK)


def test_the_import_follows_the_exporters_table(gpt2, monkeypatch):
    """The fault of docs/walkthrough.md, which no shape gives away, is wrong in this direction as
    well.
    """
    monkeypatch.setattr(weight_map, "_BLOCK", untransposed("attn.c_proj.weight"))
    assert max_abs_logit_difference(gpt2) > 0.01


@pytest.mark.parametrize("part", ["attn.c_attn.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"])
def test_a_shape_is_what_the_table_says_and_is_never_guessed(gpt2, monkeypatch, part):
    monkeypatch.setattr(weight_map, "_BLOCK", untransposed(part))
    with pytest.raises(
        PipelineError,
        match=rf"transformer\.h\.0\.{part} has shape \(\d+, \d+\), by config.json \(\d+, \d+\)",
    ):
        read_gpt2(gpt2)


def test_the_table_is_the_exporters_with_its_sides_exchanged():
    there, back = export_table(3), import_table(3)
    assert [(entry.source, entry.target, entry.transposed) for entry in there] == [
        (entry.target, entry.source, entry.transposed) for entry in back
    ]


TABLES = {
    "a tensor of ours is written twice, another not at all": lambda table: [*table[:-1], table[0]],
    "a tensor of ours is not written": lambda table: table[:-1],
    "a tensor of ours is written twice": lambda table: [*table, table[-1]],
    "a tensor that we have not is written": lambda table: [
        *table,
        weight_map.Entry("transformer.new", "transformer.new", False),
    ],
}


@pytest.mark.parametrize("change", TABLES.values(), ids=TABLES)
def test_a_table_that_does_not_write_each_tensor_once_is_refused(gpt2, monkeypatch, change):
    table = change(import_table(2))
    monkeypatch.setattr("tools.hf_import.import_table", lambda layers: table)
    with pytest.raises(
        PipelineError, match="does not write each tensor of our network exactly once"
    ):
        read_gpt2(gpt2)


def test_a_table_that_reads_a_tensor_twice_is_refused(gpt2, monkeypatch):
    *table, last = import_table(2)
    assert last.source == "transformer.h.1.mlp.c_proj.bias"
    table.append(last._replace(source="transformer.h.0.mlp.c_proj.bias"))
    monkeypatch.setattr("tools.hf_import.import_table", lambda layers: table)
    with pytest.raises(
        PipelineError, match=r"unknown: transformer\.h\.1\.mlp\.c_proj\.bias; missing: none"
    ):
        read_gpt2(gpt2)
    change_tensors(gpt2, without(last.source))
    with pytest.raises(
        PipelineError, match=r"the table has one source twice: transformer\.h\.0\.mlp\.c_proj\.bias"
    ):
        read_gpt2(gpt2)


def without(name: str):
    return lambda tensors: {key: tensor for key, tensor in tensors.items() if key != name}


def replaced(name: str, change):
    return lambda tensors: {**tensors, name: change(tensors[name])}


def added(name: str, tensor: torch.Tensor):
    return lambda tensors: {**tensors, name: tensor}


FAULTS = {
    "one is missing": (
        without("transformer.ln_f.bias"),
        r"unknown: none; missing: transformer\.ln_f\.bias",
    ),
    "the embedding is missing": (
        without("transformer.wte.weight"),
        r"unknown: none; missing: transformer\.wte\.weight",
    ),
    "one is unknown": (
        added("transformer.h.0.attn.q", torch.ones(1)),
        r"unknown: transformer\.h\.0\.attn\.q; missing: none",
    ),
    "there is a block too many": (
        added("transformer.h.2.ln_1.bias", torch.ones(32)),
        r"unknown: transformer\.h\.2\.ln_1\.bias",
    ),
    "a mask has no block": (
        added("transformer.h.2.attn.bias", CAUSAL),
        r"unknown: transformer\.h\.2\.attn\.bias",
    ),
    "one is misshapen": (
        replaced("transformer.wpe.weight", lambda tensor: tensor[:-1]),
        r"wpe\.weight has shape \(31, 32\), by config\.json \(32, 32\)",
    ),
    "one is the other way round": (
        replaced("transformer.h.1.mlp.c_fc.weight", lambda tensor: tensor.T),
        r"c_fc\.weight has shape \(128, 32\), by config\.json \(32, 128\)",
    ),
    "one is of integers": (
        replaced("transformer.ln_f.bias", torch.Tensor.char),
        r"ln_f\.bias is of type torch\.int8",
    ),
    "one is of doubles": (
        replaced("transformer.ln_f.bias", torch.Tensor.double),
        r"ln_f\.bias is of type torch\.float64",
    ),
    "one is there under both names": (
        added("ln_f.bias", torch.ones(32)),
        r"unknown: ln_f\.bias; missing: none",
    ),
    "one is there under the other name": (
        lambda tensors: {
            "ln_f.bias": tensors["transformer.ln_f.bias"],
            **without("transformer.ln_f.bias")(tensors),
        },
        r"unknown: ln_f\.bias; missing: transformer\.ln_f\.bias",
    ),
    "names are prefixed twice": (
        lambda tensors: {f"transformer.{name}": tensor for name, tensor in tensors.items()},
        r"unknown: transformer\.transformer\.h\.0\.attn\.c_attn\.bias",
    ),
    "the head is rounded": (
        lambda tensors: {**tensors, "lm_head.weight": tensors["transformer.wte.weight"].half()},
        r"lm_head\.weight is not the token embedding",
    ),
    "the head is another": (
        added("lm_head.weight", torch.ones(576, 32)),
        r"lm_head\.weight is not the token embedding",
    ),
    "a mask is not causal": (
        added("transformer.h.1.attn.bias", torch.ones_like(CAUSAL)),
        r"h\.1\.attn\.bias is not the causal mask of 32 positions",
    ),
    "a mask is of another length": (
        added("transformer.h.1.attn.bias", CAUSAL[:, :, :16, :16]),
        r"h\.1\.attn\.bias is not the causal mask of 32 positions",
    ),
    "what should hide does not": (
        added("transformer.h.0.attn.masked_bias", torch.tensor(-1.0)),
        r"h\.0\.attn\.masked_bias is not one number of at most -9984",
    ),
    "what should hide is no number": (
        added("transformer.h.0.attn.masked_bias", torch.tensor(torch.nan)),
        r"h\.0\.attn\.masked_bias is not one number",
    ),
}


@pytest.mark.parametrize(("change", "message"), FAULTS.values(), ids=FAULTS)
def test_weights_that_our_network_cannot_hold_are_one_line(gpt2, change, message):
    change_tensors(gpt2, change)
    with pytest.raises(PipelineError, match=message) as caught:
        read_gpt2(gpt2)
    assert str(caught.value).startswith(f"{gpt2}/model.safetensors: ")
    assert len(str(caught.value).splitlines()) == 1


SETTINGS = [
    {"activation_function": "gelu"},
    {"add_cross_attention": True},
    {"layer_norm_epsilon": 1e-6},
    {"model_type": "gpt_neo"},
    {"n_head": 3},
    {"n_inner": 64},
    {"scale_attn_by_inverse_layer_idx": True},
    {"scale_attn_weights": False},
    {"tie_word_embeddings": False},
    {"num_hidden_layers": 2},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: next(iter(setting)))
def test_a_setting_that_our_network_does_not_have_is_one_line(gpt2, setting):
    change_config(gpt2, **setting)
    [key] = setting
    with pytest.raises(PipelineError, match=key) as caught:
        read_gpt2(gpt2)
    assert str(caught.value).startswith(f"{gpt2}/config.json: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_is_broken_or_missing_is_one_line(gpt2, name):
    (gpt2 / name).write_text("{")
    with pytest.raises(PipelineError, match=rf"^{gpt2}/{name}: .*$"):
        read_gpt2(gpt2)
    (gpt2 / name).unlink()
    with pytest.raises(PipelineError, match=rf"^{gpt2}(/{name}: |: no {name}; ).*$"):
        read_gpt2(gpt2)


def check(directory) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tools.check_import", str(directory)]
    return subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True)


def test_the_tool_compares_with_transformers_and_stops_on_altered_bytes(gpt2):
    change_tensors(gpt2, LAYOUTS["masks of bytes and the number that hides"])
    write_checksums(gpt2)
    done = check(gpt2)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{gpt2}: logits differ by at most ")
    assert done.stdout.endswith(" on 64 tokens\n")
    assert len(done.stdout.splitlines()) == 1
    weights = bytearray((gpt2 / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (gpt2 / "model.safetensors").write_bytes(weights)
    done = check(gpt2)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {gpt2}/model.safetensors: missing or altered")


def test_the_tool_stops_on_another_network(gpt2, monkeypatch):
    monkeypatch.setattr(weight_map, "_BLOCK", untransposed("attn.c_proj.weight"))
    monkeypatch.setattr(sys, "argv", ["check_import", str(gpt2)])
    with pytest.raises(PipelineError, match="what was loaded is another network"):
        check_import.main()
