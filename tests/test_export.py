import json
import re

import pytest
import torch
from conftest import random_gpt
from transformers import AutoModelForCausalLM

from model import hf
from model.checkpoints import load_model, read_checkpoint
from model.errors import PipelineError
from model.hf import build_hugging_face_model, export_table, hugging_face_config, map_tensors, verify_export

END_OF_TEXT = 512
TOLERANCE = 1e-4


@pytest.fixture
def tokens(network):
    return torch.randint(0, network.vocab_size, (2, network.context + 1), generator=torch.Generator().manual_seed(3))


def export(checkpoint, directory, tensors=None, **config_changes):
    config, raw = read_checkpoint(checkpoint)
    hf_config = hugging_face_config(config.network, END_OF_TEXT)
    for key, value in config_changes.items():
        setattr(hf_config, key, value)
    mapped = map_tensors(raw, export_table(config.network.layers)) if tensors is None else tensors
    build_hugging_face_model(hf_config, mapped).save_pretrained(directory)
    return load_model(config, raw)


def test_a_right_export_has_the_checkpoints_logits(checkpoint, tmp_path, tokens):
    model = export(checkpoint, tmp_path / "export")
    parity = verify_export(tmp_path / "export", model, tokens, TOLERANCE)
    assert parity.max_abs_logit_difference < TOLERANCE / 10
    assert parity.export_loss == pytest.approx(parity.checkpoint_loss, abs=1e-5)
    assert parity.tokens == 64


def test_square_projection_is_transposed(checkpoint, tmp_path, tokens, network):
    """The original fault: shapes agree either way, so only the table says that the square weight is transposed."""
    name = "transformer.h.1.attn.c_proj.weight"
    assert {entry.target: entry.transposed for entry in export_table(2)}[name]
    table = [entry._replace(transposed=entry.transposed and entry.target != name) for entry in export_table(2)]
    _, raw = read_checkpoint(checkpoint)
    model = export(checkpoint, tmp_path / "export", tensors=map_tensors(raw, table))
    with pytest.raises(PipelineError, match=r"first diverging layer: transformer\.h\.1 or transformer\.ln_f"):
        verify_export(tmp_path / "export", model, tokens, TOLERANCE)


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("part", ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"])
def test_every_projection_is_proved(checkpoint, tmp_path, tokens, layer, part):
    _, raw = read_checkpoint(checkpoint)
    name = f"transformer.h.{layer}.{part}.weight"
    raw[name] = raw[name].roll(1, dims=1)
    model = export(checkpoint, tmp_path / "export", tensors=map_tensors(raw, export_table(2)))
    with pytest.raises(PipelineError, match=rf"first diverging layer: transformer\.h\.{layer}"):
        verify_export(tmp_path / "export", model, tokens, TOLERANCE)


def test_the_names_of_a_compiled_checkpoint_are_refused(checkpoint):
    _, raw = read_checkpoint(checkpoint)
    compiled = {f"_orig_mod.{name}": tensor for name, tensor in raw.items()}
    with pytest.raises(PipelineError, match=r"unknown: _orig_mod\.transformer.* and 24 more; missing: transformer"):
        map_tensors(compiled, export_table(2))


def test_an_export_that_skipped_unknown_names_is_caught_by_parity(checkpoint, tmp_path, tokens, network):
    """The second fault: with every name unknown and skipped, a randomly initialized model was saved."""
    _, raw = read_checkpoint(checkpoint)
    random_tensors = {name: tensor for name, tensor in random_gpt(network, seed=9).state_dict().items() if name in raw}
    model = export(checkpoint, tmp_path / "export", tensors=map_tensors(random_tensors, export_table(2)))
    with pytest.raises(PipelineError, match=r"logits differ .* first diverging layer: embeddings"):
        verify_export(tmp_path / "export", model, tokens, TOLERANCE)


@pytest.mark.parametrize(
    ("changes", "layer"),
    [({"activation_function": "gelu"}, "transformer.h.0"), ({"layer_norm_epsilon": 1e-3}, "transformer.h.0")],
)
def test_a_wrong_config_is_caught_by_parity(checkpoint, tmp_path, tokens, changes, layer):
    model = export(checkpoint, tmp_path / "export", **changes)
    with pytest.raises(PipelineError, match=re.escape(f"first diverging layer: {layer}")):
        verify_export(tmp_path / "export", model, tokens, TOLERANCE)


def test_a_tensor_missing_on_disk_is_not_filled_in(checkpoint, tmp_path, tokens):
    from safetensors.torch import load_file, save_file

    model = export(checkpoint, tmp_path / "export")
    weights = tmp_path / "export" / "model.safetensors"
    tensors = load_file(weights)
    del tensors["transformer.h.0.ln_1.bias"]
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(PipelineError, match=r"missing or unexpected tensors: .*transformer\.h\.0\.ln_1\.bias"):
        verify_export(tmp_path / "export", model, tokens, TOLERANCE)


def test_not_a_number_is_no_parity(checkpoint, tmp_path, tokens):
    _, raw = read_checkpoint(checkpoint)
    raw["transformer.ln_f.bias"][:] = float("nan")
    model = export(checkpoint, tmp_path / "export", tensors=map_tensors(raw, export_table(2)))
    with pytest.raises(PipelineError, match="logits differ from the checkpoint's by nan"):
        verify_export(tmp_path / "export", model, tokens, TOLERANCE)


@pytest.mark.parametrize("drop", [True, False])
def test_every_target_is_written_exactly_once(checkpoint, tmp_path, drop):
    _, raw = read_checkpoint(checkpoint)
    tensors = map_tensors(raw, export_table(2))
    if drop:
        del tensors["transformer.wpe.weight"]
    else:
        tensors["transformer.wpe.weight"] = tensors["transformer.wpe.weight"][:-1]
    with pytest.raises(PipelineError, match=r"of another shape than GPT2LMHeadModel's: transformer\.wpe\.weight"):
        export(checkpoint, tmp_path / "export", tensors=tensors)


def test_a_source_missing_from_the_checkpoint_is_named(checkpoint):
    _, raw = read_checkpoint(checkpoint)
    del raw["transformer.h.1.mlp.c_fc.bias"]
    with pytest.raises(PipelineError, match=r"unknown: none; missing: transformer\.h\.1\.mlp\.c_fc\.bias"):
        map_tensors(raw, export_table(2))


def test_an_export_loads_plainly_with_a_tied_head_in_float32(checkpoint, tmp_path):
    export(checkpoint, tmp_path / "export")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "export")
    assert model.lm_head.weight.data_ptr() == model.transformer.wte.weight.data_ptr()
    assert model.dtype == torch.float32
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert config["activation_function"] == "gelu_new"
    assert (config["bos_token_id"], config["eos_token_id"]) == (END_OF_TEXT, END_OF_TEXT)


def test_the_table_names_every_tensor_of_a_checkpoint_once(network):
    sources = [entry.source for entry in export_table(2)]
    assert sorted(sources) == sorted(name for name in random_gpt(network).state_dict() if name != hf._TIED_TARGET)
    assert len({entry.target for entry in export_table(2)}) == len(sources)
