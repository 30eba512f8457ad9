"""Files that hold a pickle in the place of what a reader expects: one line, and the payload is
never run.
"""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from gpt2_directories import save_gpt2
from report_sample import write_sample
from small_objects import checkpoint_config, random_gpt, save_checkpoint, write_token_split
from tiny_fine_tuning import PARAMS, new_project
from transformers import AutoModelForCausalLM, AutoTokenizer

from common.errors import PipelineError
from common.files import write_checksums
from model.hugging_face.directory import read_hugging_face_directory
from model.hugging_face.loading import load_hugging_face_model
from model.network.checkpoints import read_checkpoint
from model.network.gpt import GPTConfig
from model.sources.record_readers import read_records
from model.tokens.bpe import Tokenizer
from model.tokens.shards import TokenSplit
from tools.hf_import import read_gpt2


class Payload:
    """What makes the folder `place` where it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return Path.mkdir, (self.place,)


@pytest.fixture
def place(tmp_path) -> Path:
    """Where the payload would leave its trace, having left one where it is run."""
    place = tmp_path / "pwned"
    pickle.loads(pickle.dumps(Payload(place)))  # noqa: S301
    place.rmdir()
    return place


def poison(path: Path, place: Path, kind: str) -> None:
    """Overwrite `path` with a pickle of `kind`, and the checksums beside it."""
    if kind == "torch":
        torch.save({"x": torch.zeros(2), "payload": Payload(place)}, path)
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(place)))
    else:
        with open(path, "wb") as file:  # np.save would put .npy behind another name
            np.save(file, np.array([Payload(place)], dtype=object), allow_pickle=True)
    write_checksums(path.parent)


def make_checkpoint(directory: Path, tokenizer) -> None:
    network = GPTConfig(layers=1, heads=2, width=8, context=8, vocab_size=tokenizer.size)
    save_checkpoint(directory, random_gpt(network), checkpoint_config(network))


def make_export(directory: Path, tokenizer) -> None:
    save_gpt2(directory, tokenizer, layers=1, heads=2, width=8, context=16)


def make_tokenizer(directory: Path, tokenizer) -> None:
    directory.mkdir()
    tokenizer.save(directory)


def make_shards(directory: Path, _) -> None:
    write_token_split(directory, [[99, 1, 2], [99, 3]])


def read_shard(directory: Path) -> None:
    TokenSplit(directory, "train").shard(0)


READERS = {
    "checkpoint, weights": (make_checkpoint, "model.safetensors", read_checkpoint),
    "checkpoint, config": (make_checkpoint, "config.json", read_checkpoint),
    "export, weights": (make_export, "model.safetensors", read_hugging_face_directory),
    "export, tokenizer": (make_export, "tokenizer.json", read_hugging_face_directory),
    "export, weights, by transformers": (make_export, "model.safetensors", load_hugging_face_model),
    "another's GPT-2": (make_export, "model.safetensors", read_gpt2),
    "shard": (
        make_shards,
        "train_00000.bin",
        read_shard,
    ),
    "documents of a shard": (
        make_shards,
        "train_00000.documents.npy",
        read_shard,
    ),
    "ranks": (make_tokenizer, "ranks.tiktoken", Tokenizer.load),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["torch", "pickle", "numpy"])
def test_a_pickle_in_the_place_of_a_file_is_one_line_and_is_not_run(
    tmp_path, tokenizer, place, reader, kind
):
    make, name, read = READERS[reader]
    make(tmp_path / "artifact", tokenizer)
    poison(tmp_path / "artifact" / name, place, kind)
    with pytest.raises(PipelineError) as caught:
        read(tmp_path / "artifact")
    assert "\n" not in str(caught.value)
    assert not place.exists()


def test_weights_of_torch_beside_no_safetensors_are_not_looked_for(tmp_path, tokenizer, place):
    make_export(tmp_path / "artifact", tokenizer)
    (tmp_path / "artifact/model.safetensors").unlink()
    poison(tmp_path / "artifact/pytorch_model.bin", place, "torch")
    for read in (load_hugging_face_model, read_hugging_face_directory, read_gpt2):
        with pytest.raises(PipelineError, match=r"safetensors"):
            read(tmp_path / "artifact")
    assert not place.exists()


def test_code_beside_a_model_is_not_run(tmp_path, tokenizer, place):
    make_export(tmp_path / "artifact", tokenizer)
    (tmp_path / "artifact/evil.py").write_text(
        f"import os\nos.mkdir({str(place)!r})\nclass Evil: pass\n"
    )
    for name in ("config.json", "tokenizer_config.json"):
        path = tmp_path / "artifact" / name
        auto = {
            "AutoTokenizer": ["evil.Evil", "evil.Evil"],
            "AutoModelForCausalLM": "evil.Evil",
            "AutoConfig": "evil.Evil",
        }
        path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": auto}))
    load_hugging_face_model(tmp_path / "artifact")
    read_hugging_face_directory(tmp_path / "artifact")
    plainly = {
        "local_files_only": True,
        "trust_remote_code": False,
    }  # as model/export/gate.py loads
    AutoTokenizer.from_pretrained(tmp_path / "artifact", **plainly).encode("a text")
    AutoModelForCausalLM.from_pretrained(tmp_path / "artifact", **plainly)
    assert not place.exists()


@pytest.mark.parametrize("name", ["arrow.py_extension_type", "pandas.interval", "evil"])
def test_a_pickle_in_the_metadata_of_arrow_is_not_run(tmp_path, place, name):
    field = pa.field(
        "text",
        pa.string(),
        metadata={
            b"ARROW:extension:name": name.encode(),
            b"ARROW:extension:metadata": pickle.dumps(Payload(place)),
        },
    )
    schema = pa.schema([field], metadata={b"PYTHON:pickle": pickle.dumps(Payload(place))})
    table = pa.table({"text": ["a"]}).cast(pa.schema([pa.field("text", pa.string())]))
    with pa.ipc.new_stream(tmp_path / "a.arrow", schema) as writer:
        writer.write_table(pa.Table.from_arrays(table.columns, schema=schema))
    assert list(read_records(tmp_path / "a.arrow")) == [{"text": "a"}]
    assert not place.exists()


@pytest.mark.parametrize(
    "name",
    ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "model.safetensors"],
)
def test_a_state_of_fine_tuning_with_a_pickle_in_it_is_one_line_and_is_not_run(
    fine_tuned, tmp_path, place, name
):
    """The one place where torch unpickles: its Trainer's state, as weights only. What does not fit
    that is refused.
    """
    project, states = fine_tuned
    shutil.copytree(states, tmp_path / "work")
    state = tmp_path / "work/checkpoint-20"
    poison(state / name, place, "torch")
    if name == "training_args.bin":  # which nobody reads
        project.train(tmp_path / "work", PARAMS.model_copy(update={"max_steps": 30}))
    else:
        with pytest.raises(PipelineError, match="is not a readable state") as caught:
            project.train(tmp_path / "work", PARAMS.model_copy(update={"max_steps": 30}))
        assert "\n" not in str(caught.value)
    assert not place.exists()


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory, tokenizer):
    """A small GPT-2, and the folder of its fine-tuning's states after 20 steps."""
    folder = tmp_path_factory.mktemp("tuned")
    project = new_project(folder / "gpt2", tokenizer)
    project.train(folder / "work", PARAMS.model_copy(update={"max_steps": 20}))
    assert (folder / "work/checkpoint-20/optimizer.pt").is_file()
    return project, folder / "work"


def test_the_sealed_export_stage_stops_at_a_pickle_in_one_line(tmp_path, tokenizer, place):
    root = tmp_path / "repository"
    root.mkdir()
    write_sample(root)
    run = "baseline/seed_1/step_100"
    make_checkpoint(root / "checkpoints" / run, tokenizer)
    make_tokenizer(root / "data", tokenizer)
    poison(root / "checkpoints" / run / "model.safetensors", place, "torch")
    command = [sys.executable, "-m", "stages.export", "baseline", "1", "100"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in done.stderr
    assert not place.exists()
    assert [path for path in (root / "exports").rglob("*") if path.is_file()] == []
