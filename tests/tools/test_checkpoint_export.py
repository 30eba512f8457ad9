"""A checkpoint of a run that trains is exported through the gate, and the run's folder stays."""

import shutil
from pathlib import Path

import pytest
import torch
from repository import REPOSITORY
from small_objects import checkpoint_config, random_gpt, save_checkpoint, write_token_split
from transformers import AutoModelForCausalLM

from common.errors import PipelineError
from common.files import CHECKSUMS, write_checksums
from model.network.canary import canary_rows, mean_loss
from model.network.gpt import GPTConfig
from tools.checkpoint_export import exported, is_checkpoint
from tools.score import _directory

SCRATCH = Path("checkpoints/baseline/.seed_1.scratch/0f3c/checkpoints")


@pytest.fixture
def checkpoint(tmp_path, monkeypatch, baseline_tokenizer) -> Path:
    """A whole checkpoint in the scratch folder of a run, in a repository of its own."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(REPOSITORY / "profiles/micro.yaml", "params.yaml")
    size, tokens = baseline_tokenizer.size, Path("data/tokens/baseline")
    network = GPTConfig(layers=1, heads=2, width=16, context=32, vocab_size=size)
    documents = [[512, *range(number, number + 40)] for number in range(5)]
    _, validation = write_token_split(tokens, documents, vocab_size=size)
    baseline_tokenizer.save(tokens)
    write_checksums(tokens)
    model = random_gpt(network)
    rows, _ = canary_rows(validation, 2, network.context)
    with torch.no_grad():
        loss = mean_loss(model(rows[:, :-1]), rows[:, 1:])
    config = checkpoint_config(network, canary_loss=loss)
    save_checkpoint(SCRATCH / "step_7", model, config)
    return SCRATCH / "step_7"


def files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_checkpoint_is_exported_and_nothing_is_left(checkpoint):
    before = files(Path("."))
    with exported(checkpoint) as (export, gate):
        model = AutoModelForCausalLM.from_pretrained(export)
        assert model.config.n_embd == 16
        assert gate.startswith(f"{checkpoint}: exported for this; logits differ by at most ")
    assert not export.exists()
    assert files(Path(".")) == before


def test_a_run_that_ends_meanwhile_does_not_disturb_the_score(checkpoint):
    with _directory(str(checkpoint), None) as directory:
        shutil.rmtree(SCRATCH)
        assert (directory / "model.safetensors").is_file()


def test_a_checkpoint_that_is_being_written_is_one_line(checkpoint):
    partial = checkpoint.rename(SCRATCH / ".step_8.partial")
    (partial / CHECKSUMS).unlink()
    for _ in range(2):
        assert is_checkpoint(partial)
        with pytest.raises(PipelineError, match=r"step_8\.partial: not a whole checkpoint"):
            exported(partial).__enter__()
        (partial / "config.json").unlink(missing_ok=True)


def test_a_checkpoint_that_vanishes_is_one_line(checkpoint):
    shutil.rmtree(checkpoint)
    with pytest.raises(PipelineError, match="was deleted while it was copied; a run that has"):
        exported(checkpoint).__enter__()


def test_a_damaged_checkpoint_is_refused(checkpoint):
    content = bytearray((checkpoint / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (checkpoint / "model.safetensors").write_bytes(content)
    with pytest.raises(PipelineError, match=r"model\.safetensors"):
        exported(checkpoint).__enter__()


def test_weights_of_another_step_do_not_pass_the_gate(checkpoint):
    config = checkpoint / "config.json"
    config.write_text(config.read_text().replace('"canary_loss": ', '"canary_loss": 1'))
    write_checksums(checkpoint)
    with pytest.raises(PipelineError, match="the weights are not those of this step"):
        exported(checkpoint).__enter__()


def test_an_export_is_no_checkpoint(checkpoint):
    with exported(checkpoint) as (export, _):
        assert not is_checkpoint(export)
