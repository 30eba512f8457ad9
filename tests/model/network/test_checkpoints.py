import shutil

import pytest
import torch
from safetensors.torch import load_file
from small_objects import checkpoint_config, random_gpt, save_checkpoint

from common.errors import PipelineError
from common.files import write_checksums
from model.network.checkpoints import load_model, read_checkpoint


def test_a_checkpoint_gives_the_same_network_back(checkpoint, network):
    config, tensors = read_checkpoint(checkpoint)
    assert (config.condition, config.seed, config.step, config.tokens) == ("baseline", 1, 7, 70)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert (load_model(config, tensors)(tokens) == random_gpt(network)(tokens)).all()


def test_the_same_network_gives_the_same_bytes(checkpoint, tmp_path, network):
    save_checkpoint(tmp_path / "again", random_gpt(network), checkpoint_config(network))
    for path in checkpoint.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_a_tensor_too_many_or_too_few_is_refused(checkpoint):
    config, tensors = read_checkpoint(checkpoint)
    with pytest.raises(PipelineError, match="does not fit its network"):
        load_model(config, {**tensors, "extra": torch.zeros(1)})
    del tensors["transformer.ln_f.bias"]
    with pytest.raises(PipelineError, match="does not fit its network"):
        load_model(config, tensors)


def test_a_failing_write_leaves_nothing(tmp_path, network, monkeypatch):
    monkeypatch.setattr(
        "model.network.checkpoints.save_file",
        lambda *_: (_ for _ in ()).throw(OSError("no space left")),
    )
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path / "new", random_gpt(network), checkpoint_config(network))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_unreadable_checkpoint_is_named(checkpoint):
    (checkpoint / "config.json").write_text("{")
    write_checksums(checkpoint)
    with pytest.raises(PipelineError, match=r"config\.json: cannot be read"):
        read_checkpoint(checkpoint)
    shutil.rmtree(checkpoint)
    with pytest.raises(PipelineError, match="SHA256SUMS: missing"):
        read_checkpoint(checkpoint)


def test_the_tied_output_layer_is_stored_once(checkpoint):
    names = load_file(checkpoint / "model.safetensors")
    assert "lm_head.weight" not in names
    assert "transformer.wte.weight" in names
