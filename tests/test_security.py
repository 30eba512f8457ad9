"""What the text of our code never does, with a fault for each rule; and files that hold a pickle, which nobody runs."""

import ast
import pickle
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from conftest import REPOSITORY, checkpoint_config, random_gpt, save_checkpoint, write_token_split
from models import save_gpt2
from report_sample import write_sample
from source_rules import PICKLES_OF_OUR_OWN_PROCESSES, RULES, SAFE_LOADERS
from test_fine_tuning import PARAMS, Project

from graph import instances
from model.checkpoints import read_checkpoint
from model.errors import PipelineError
from model.files import write_checksums
from model.hf_directory import read_hugging_face_directory
from model.hf_loading import load_hugging_face_model
from model.params.fetch import HubSource
from model.readers import read_records
from model.section import read_yaml
from model.shards import TokenSplit
from model.tokenizer import Tokenizer
from tools.hf_import import read_gpt2

CODE = sorted(
    path for name in ("model", "stages", "graph", "tools", "benchmarks", ".ci") for path in (REPOSITORY / name).rglob("*.py")
)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.parametrize("rule", RULES)
def test_our_code_keeps_the_rule(rule):
    found = []
    for path in CODE:
        name = path.relative_to(REPOSITORY).as_posix()
        found += [f"{name}:{node.lineno}" for node in RULES[rule](parsed(path), name)]
    assert len(CODE) > 150
    assert found == [], RULES[rule].__doc__


FAULTS = [
    ("no_pickle", "import pickle"),
    ("no_pickle", "import os, dill as d"),
    ("no_pickle", "from pickle import loads"),
    ("no_pickle", "from joblib.externals import loky"),
    ("no_pickle", "import shelve"),
    ("no_pickle", "import marshal"),
    ("no_unpickling_reader", "torch.load(path)"),
    ("no_unpickling_reader", "torch.load(path, weights_only=True)"),
    ("no_unpickling_reader", "from torch import load"),
    ("no_unpickling_reader", "reader = torch.load"),
    ("no_unpickling_reader", "np.load(path)"),
    ("no_unpickling_reader", "np.load(path, allow_pickle=flag)"),
    ("no_unpickling_reader", "numpy.load(path, allow_pickle=True)"),
    ("no_unpickling_reader", "read(path, **{'allow_pickle': True})"),
    ("no_unpickling_reader", "pd.read_pickle(path)"),
    ("no_remote_code", "GPT2LMHeadModel.from_pretrained(path, trust_remote_code=True)"),
    ("no_remote_code", "AutoModel.from_pretrained(path, trust_remote_code=trust)"),
    ("no_remote_code", "AutoTokenizer.from_pretrained(path, local_files_only=True)"),
    ("only_local_safetensors", "GPT2LMHeadModel.from_pretrained(path, local_files_only=True)"),
    ("only_local_safetensors", "GPT2LMHeadModel.from_pretrained(path, use_safetensors=True)"),
    ("only_local_safetensors", "GPT2LMHeadModel.from_pretrained(path, local_files_only=True, use_safetensors=True, **more)"),
    ("only_local_safetensors", "AutoTokenizer.from_pretrained(path)"),
    ("only_safe_yaml", "yaml.load(text, Loader=yaml.SafeLoader)"),
    ("only_safe_yaml", "yaml.unsafe_load(text)"),
    ("only_safe_yaml", "class Mine(yaml.Loader): pass"),
    ("only_safe_yaml", "from yaml import CLoader"),
    ("only_safe_yaml", "from ruamel import yaml\nimport ruamel.yaml"),
    ("no_eval", "eval(text)"),
    ("no_eval", "builtins.exec(text)"),
    ("no_eval", "compile(text, '', 'exec')"),
    ("no_eval", "__import__(name)"),
    ("no_shell", "os.system(text)"),
    ("no_shell", "run = os.popen"),
    ("no_shell", "subprocess.run(text, shell=True)"),
    ("no_shell", "subprocess.Popen(text, shell=flag)"),
    ("no_shell", "subprocess.getoutput(text)"),
    ("no_plain_http", "get('http://example.org')"),
    ("no_plain_http", "f'http://{host}/x'"),
    ("no_plain_http", "get(address, verify=False)"),
    ("no_plain_http", "ssl._create_unverified_context()"),
    ("pinned_downloads", "huggingface_hub.hf_hub_download(repository, name)"),
    ("pinned_downloads", "snapshot_download(repository, revision=None)"),
    ("pinned_downloads", "datasets.load_dataset(name, split='train')"),
    ("pinned_downloads", "datasets.load_dataset(name, data_files=files)"),
    ("no_unpacking", "tarfile.open(path).extractall(folder)"),
    ("no_unpacking", "shutil.unpack_archive(path)"),
    ("escaping_templates", "jinja2.Environment(loader=loader)"),
    ("escaping_templates", "jinja2.Environment(autoescape=False)"),
    ("escaping_templates", "jinja2.Template(text)"),
    ("escaping_templates", "Markup(text)"),
]


@pytest.mark.parametrize(("rule", "text"), FAULTS, ids=[text for _, text in FAULTS])
def test_a_text_that_breaks_the_rule_is_caught(rule, text):
    assert list(RULES[rule](ast.parse(text), "model/other.py"))


def test_every_rule_has_a_fault_and_every_exception_is_needed():
    assert {rule for rule, _ in FAULTS} == RULES.keys()
    for rule, names in (("no_pickle", PICKLES_OF_OUR_OWN_PROCESSES), ("only_safe_yaml", SAFE_LOADERS)):
        for name in names:
            assert list(RULES[rule](ast.parse((REPOSITORY / name).read_text()), "model/other.py")), name


def test_no_text_beside_the_code_has_a_plain_address():
    kinds = ("*.js", "*.html", "*.css", "*.yaml", "*.in", "*.txt", "*.toml", "Makefile", "run")
    folders = [REPOSITORY / name for name in (".", "model/report", "tools", "profiles", ".ci")]
    texts = [path for folder in folders for kind in kinds for path in sorted(folder.glob(kind))] + [REPOSITORY / ".dvc/config"]
    assert {"Makefile", "config", "report.html", "requirements.txt"} <= {path.name for path in texts}
    assert [str(path) for path in texts if re.search(r"(http|ftp)://", path.read_text())] == []


def test_graphs_own_loader_is_a_safe_one():
    assert issubclass(instances.Loader, yaml.SafeLoader | getattr(yaml, "CSafeLoader", yaml.SafeLoader))


@pytest.mark.parametrize("text", ["!!python/object/apply:os.mkdir [{place}]", "!!python/name:os.system ''",
                                  "!!python/object/new:os.mkdir [{place}]"])  # fmt: skip
def test_yaml_makes_no_objects(tmp_path, text):
    path, place = tmp_path / "params.yaml", tmp_path / "pwned"
    path.write_text(f"a: {text.format(place=place)}")
    with pytest.raises(PipelineError, match="not valid YAML"):
        read_yaml(path)
    with pytest.raises(yaml.YAMLError):
        instances.load_yaml(path.read_bytes())
    assert not place.exists()


@pytest.mark.parametrize("revision", ["main", "v1.0", "0" * 39, "0" * 41, "0" * 39 + "G", "0" * 40 + "\n", ""])
def test_a_revision_is_a_commit(revision):
    with pytest.raises(ValueError, match="revision"):
        HubSource(kind="hub", dataset="a/b", subset=None, split="train", revision=revision)
    HubSource(kind="hub", dataset="a/b", subset=None, split="train", revision="0" * 40)


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
    from model.gpt import GPTConfig

    network = GPTConfig(layers=1, heads=2, width=8, context=8, vocab_size=tokenizer.size)
    save_checkpoint(directory, random_gpt(network), checkpoint_config(network))


def make_export(directory: Path, tokenizer) -> None:
    save_gpt2(directory, tokenizer, layers=1, heads=2, width=8, context=16)


def make_tokenizer(directory: Path, tokenizer) -> None:
    directory.mkdir()
    tokenizer.save(directory)


def make_shards(directory: Path, _) -> None:
    write_token_split(directory, [[99, 1, 2], [99, 3]])


READERS = {
    "checkpoint, weights": (make_checkpoint, "model.safetensors", read_checkpoint),
    "checkpoint, config": (make_checkpoint, "config.json", read_checkpoint),
    "export, weights": (make_export, "model.safetensors", read_hugging_face_directory),
    "export, tokenizer": (make_export, "tokenizer.json", read_hugging_face_directory),
    "export, weights, by transformers": (make_export, "model.safetensors", load_hugging_face_model),
    "another's GPT-2": (make_export, "model.safetensors", read_gpt2),
    "shard": (make_shards, "train_00000.bin", lambda directory: TokenSplit(directory, "train")),
    "documents of a shard": (make_shards, "train_00000.documents.npy", lambda directory: TokenSplit(directory, "train")),
    "ranks": (make_tokenizer, "ranks.tiktoken", Tokenizer.load),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", ["torch", "pickle", "numpy"])
def test_a_pickle_in_the_place_of_a_file_is_one_line_and_is_not_run(tmp_path, tokenizer, place, reader, kind):
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
    import json

    from model.hf_tokenizer import verify_tokenizer

    make_export(tmp_path / "artifact", tokenizer)
    (tmp_path / "artifact/evil.py").write_text(f"import os\nos.mkdir({str(place)!r})\nclass Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        path = tmp_path / "artifact" / name
        auto = {"AutoTokenizer": ["evil.Evil", "evil.Evil"], "AutoModelForCausalLM": "evil.Evil", "AutoConfig": "evil.Evil"}
        path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": auto}))
    load_hugging_face_model(tmp_path / "artifact")
    read_hugging_face_directory(tmp_path / "artifact")
    verify_tokenizer(tmp_path / "artifact", tokenizer, ["a text"])
    assert not place.exists()


@pytest.mark.parametrize("name", ["arrow.py_extension_type", "pandas.interval", "evil"])
def test_a_pickle_in_the_metadata_of_arrow_is_not_run(tmp_path, place, name):
    field = pa.field("text", pa.string(), metadata={
        b"ARROW:extension:name": name.encode(), b"ARROW:extension:metadata": pickle.dumps(Payload(place))})  # fmt: skip
    schema = pa.schema([field], metadata={b"PYTHON:pickle": pickle.dumps(Payload(place))})
    table = pa.table({"text": ["a"]}).cast(pa.schema([pa.field("text", pa.string())]))
    with pa.ipc.new_stream(tmp_path / "a.arrow", schema) as writer:
        writer.write_table(pa.Table.from_arrays(table.columns, schema=schema))
    assert list(read_records(tmp_path / "a.arrow")) == [{"text": "a"}]
    assert not place.exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "model.safetensors"])
def test_a_state_of_fine_tuning_with_a_pickle_in_it_is_one_line_and_is_not_run(fine_tuned, tmp_path, place, name):
    """The one place where torch unpickles: its Trainer's state, as weights only. What does not fit that is refused."""
    project, states = fine_tuned
    shutil.copytree(states, tmp_path / "work")
    state = tmp_path / "work/checkpoint-20"
    poison(state / name, place, "torch")
    if name == "training_args.bin":  # which nobody reads
        project.train(tmp_path / "work", PARAMS.model_copy(update={"max_steps": 30}))
    else:
        with pytest.raises(PipelineError, match="holds what is no state") as caught:
            project.train(tmp_path / "work", PARAMS.model_copy(update={"max_steps": 30}))
        assert "\n" not in str(caught.value)
    assert not place.exists()


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory, tokenizer):
    """A small GPT-2, and the folder of its fine-tuning's states after 20 steps."""
    folder = tmp_path_factory.mktemp("tuned")
    project = Project(folder / "gpt2", tokenizer)
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
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr
    assert not place.exists()
    assert [path for path in (root / "exports").rglob("*") if path.is_file()] == []
