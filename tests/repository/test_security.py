"""What the text of our code never does, with a fault for each rule; what YAML and a revision may
not be.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from code_rules import PICKLES_OF_OUR_OWN_PROCESSES, RULES
from repository import REPOSITORY

from common.errors import PipelineError
from common.yaml_file import YamlFault, read_yaml
from model.params.fetch import HubSource
from pipeline.declared import dvc_yaml

FOLDERS = ("common", "model", "stages", "pipeline", "tools", "benchmarks", ".ci")
CODE = sorted(path for name in FOLDERS for path in (REPOSITORY / name).rglob("*.py"))


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
    ("no_pickle", "from importlib import import_module\nimport_module('pickle')"),
    ("no_pickle", "import importlib as i\ni.import_module('dill')"),
    ("no_pickle", "from six.moves import cPickle"),
    ("no_pickle", "from pickle import PickleError, load"),
    ("no_unpickling_reader", "torch.load(path)"),
    ("no_unpickling_reader", "torch.load(path, weights_only=True)"),
    ("no_unpickling_reader", "from torch import load"),
    ("no_unpickling_reader", "reader = torch.load"),
    ("no_unpickling_reader", "import torch as t\nt.load(path)"),
    ("no_unpickling_reader", "from torch import load as read\nread(path)"),
    ("no_unpickling_reader", "torch.jit.load(path)"),
    ("no_unpickling_reader", "from torch import jit\njit.load(path)"),
    ("no_unpickling_reader", "from torch.jit import load"),
    ("no_unpickling_reader", "import torch.jit as j\nj.load(path)"),
    (
        "no_unpickling_reader",
        "try:\n    import torch as t\nexcept ImportError:\n    import other as t\nt.load(path)",
    ),
    ("no_unpickling_reader", "np.load(path)"),
    ("no_unpickling_reader", "import numpy as n\nn.load(path)"),
    ("no_unpickling_reader", "from numpy import load"),
    ("no_unpickling_reader", "from numpy import load\nload(path)"),
    ("no_unpickling_reader", "read = np.load"),
    ("no_unpickling_reader", "np.load(path, allow_pickle=flag)"),
    ("no_unpickling_reader", "numpy.load(path, allow_pickle=True)"),
    ("no_unpickling_reader", "read(path, **{'allow_pickle': True})"),
    ("no_unpickling_reader", "pd.read_pickle(path)"),
    ("no_unpickling_reader", "from pandas import read_pickle"),
    ("no_unpickling_reader", "import pandas\npandas.read_pickle(path)"),
    (
        "no_remote_code",
        (
            "Auto.from_pretrained(path, local_files_only=True, use_safetensors=True,"
            " trust_remote_code=True)"
        ),
    ),
    (
        "no_remote_code",
        (
            "GPT2LMHeadModel.from_pretrained(path, local_files_only=True, use_safetensors=True,"
            " trust_remote_code=trust)"
        ),
    ),
    ("no_remote_code", "AutoTokenizer.from_pretrained(path, local_files_only=True)"),
    (
        "no_remote_code",
        "import transformers as t\nt.AutoTokenizer.from_pretrained(path, local_files_only=True)",
    ),
    (
        "no_remote_code",
        (
            "from transformers import AutoTokenizer as T\nT.from_pretrained(path,"
            " local_files_only=True)"
        ),
    ),
    ("only_local_safetensors", "GPT2LMHeadModel.from_pretrained(path, local_files_only=True)"),
    ("only_local_safetensors", "getattr(transformers, name).from_pretrained(path)"),
    ("only_local_safetensors", "GPT2LMHeadModel.from_pretrained(path, use_safetensors=True)"),
    (
        "only_local_safetensors",
        (
            "GPT2LMHeadModel.from_pretrained(path, local_files_only=True, use_safetensors=True,"
            " **more)"
        ),
    ),
    ("only_local_safetensors", "AutoTokenizer.from_pretrained(path, trust_remote_code=False)"),
    ("only_safe_yaml", "yaml.load(text, Loader=yaml.SafeLoader)"),
    ("only_safe_yaml", "yaml.unsafe_load(text)"),
    ("only_safe_yaml", "class Mine(yaml.Loader): pass"),
    ("only_safe_yaml", "from yaml import CLoader"),
    ("only_safe_yaml", "import yaml as y\ny.load(text)"),
    ("only_safe_yaml", "from yaml import load as read"),
    ("only_safe_yaml", "from yaml.loader import Loader"),
    ("only_safe_yaml", "from ruamel import yaml"),
    ("only_safe_yaml", "import ruamel.yaml"),
    ("only_safe_yaml", "from ruamel.yaml import YAML"),
    ("only_safe_yaml", "import importlib\nimportlib.import_module('ruamel.yaml')"),
    ("no_eval", "eval(text)"),
    ("no_eval", "builtins.exec(text)"),
    ("no_eval", "compile(text, '', 'exec')"),
    ("no_eval", "__import__(name)"),
    ("no_eval", "from builtins import exec as run\nrun(text)"),
    ("no_eval", "importlib.import_module(name)"),
    ("no_eval", "from importlib import import_module as get\nget(f'{name}.loader')"),
    ("no_shell", "os.system(text)"),
    ("no_shell", "run = os.popen"),
    ("no_shell", "subprocess.run(text, shell=True)"),
    ("no_shell", "subprocess.Popen(text, shell=flag)"),
    ("no_shell", "subprocess.getoutput(text)"),
    ("no_shell", "from os import system"),
    ("no_shell", "from os import path, popen as p\np(text)"),
    ("no_shell", "from subprocess import getoutput"),
    ("no_shell", "import subprocess as s\ns.getstatusoutput(text)"),
    ("no_plain_http", "get('http://example.org')"),
    ("no_plain_http", "f'http://{host}/x'"),
    ("no_plain_http", "get('http://127.0.0.1.example.org')"),
    ("no_plain_http", "get(address, verify=False)"),
    ("no_plain_http", "ssl._create_unverified_context()"),
    ("no_plain_http", "from ssl import CERT_NONE"),
    ("pinned_downloads", "huggingface_hub.hf_hub_download(repository, name)"),
    ("pinned_downloads", "snapshot_download(repository, revision=None)"),
    ("pinned_downloads", "datasets.load_dataset(name, split='train')"),
    ("pinned_downloads", "datasets.load_dataset(name, data_files=files)"),
    ("pinned_downloads", "load_dataset('parquet', data_files='https://example.org/a.parquet')"),
    (
        "pinned_downloads",
        "load_dataset('parquet', data_files={'train': [f'hf://datasets/{name}/a.parquet']})",
    ),
    ("pinned_downloads", "from datasets import load_dataset as read\nread(name)"),
    ("no_unpacking", "tarfile.open(path).extractall(folder)"),
    ("no_unpacking", "shutil.unpack_archive(path)"),
    ("escaping_templates", "jinja2.Environment(loader=loader)"),
    ("escaping_templates", "jinja2.Environment(autoescape=False)"),
    ("escaping_templates", "jinja2.Template(text)"),
    ("escaping_templates", "from jinja2 import Template as T\nT(text)"),
    ("escaping_templates", "Markup(text)"),
]


@pytest.mark.parametrize(("rule", "text"), FAULTS, ids=[text for _, text in FAULTS])
def test_a_text_that_breaks_a_rule_is_caught_by_that_rule_and_no_other(rule, text):
    tree = ast.parse(text)
    assert [name for name in RULES if list(RULES[name](tree, "model/other.py"))] == [rule]


KEPT = [
    "np.load(path, allow_pickle=False)",
    "import numpy as np\nnp.load(path, allow_pickle=False)",
    "from pickle import UnpicklingError",
    "from re import compile\ncompile(text)",
    "from json import load\nload(file)",
    "GPT2LMHeadModel(config).eval()",
    "from yaml import safe_load, YAMLError",
    "import_module(f'model.tasks.item_selection.{task.items}')",
    "load_dataset('parquet', data_files=files)",
    "load_dataset(name, revision=revision, data_files=files)",
]


@pytest.mark.parametrize("text", KEPT)
def test_a_text_that_only_looks_like_it_breaks_no_rule(text):
    tree = ast.parse(text)
    assert [name for name in RULES if list(RULES[name](tree, "model/other.py"))] == []


def test_every_rule_has_a_fault_and_every_exception_is_needed():
    assert {rule for rule, _ in FAULTS} == RULES.keys()
    for name in PICKLES_OF_OUR_OWN_PROCESSES:
        assert list(
            RULES["no_pickle"](ast.parse((REPOSITORY / name).read_text()), "model/other.py")
        ), name


def test_no_text_beside_the_code_has_a_plain_address():
    kinds = ("*.js", "*.html", "*.css", "*.yaml", "*.in", "*.txt", "*.toml", "Makefile", "run")
    folders = [REPOSITORY / name for name in (".", "model/report", "tools", "profiles", ".ci")]
    texts = [path for folder in folders for kind in kinds for path in sorted(folder.glob(kind))] + [
        REPOSITORY / ".dvc/config"
    ]
    assert {"Makefile", "config", "report.html", "requirements.txt"} <= {
        path.name for path in texts
    }
    assert [str(path) for path in texts if re.search(r"(http|ftp)://", path.read_text())] == []


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.mkdir [{place}]",
        "!!python/name:os.system ''",
        "!!python/object/new:os.mkdir [{place}]",
    ],
)
def test_yaml_makes_no_objects(tmp_path, text):
    path, place = tmp_path / "params.yaml", tmp_path / "pwned"
    path.write_text(f"a: {text.format(place=place)}")
    with pytest.raises(PipelineError, match=r"params\.yaml: a: has the tag !!python/.*; remove it"):
        read_yaml(path)
    with pytest.raises(YamlFault, match="YAML text: a: has the tag"):
        dvc_yaml.load_yaml(path.read_bytes())
    assert not place.exists()


@pytest.mark.parametrize(
    "revision", ["main", "v1.0", "0" * 39, "0" * 41, "0" * 39 + "G", "0" * 40 + "\n", ""]
)
def test_a_revision_is_a_commit(revision):
    with pytest.raises(ValueError, match="revision"):
        HubSource(kind="hub", dataset="a/b", subset=None, split="train", revision=revision)
    HubSource(kind="hub", dataset="a/b", subset=None, split="train", revision="0" * 40)


def test_every_row_of_the_page_on_trust_names_tests_that_are_there():
    text = (REPOSITORY / "docs/trust.md").read_text()
    named = set(re.findall(r"`(?:tests/)?(\w+\*?\.py)`", text))
    assert len(named) > 60
    assert [name for name in named if not list((REPOSITORY / "tests").rglob(name))] == []
    tables = re.findall(r"^\| .+ \| test \|\n\|[-|]+\|\n((?:\| .+\n)+)", text, flags=re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) > 80
    without = [row for row in rows if not re.search(r"\| `test_[^|]+\.py` \|$", row)]
    assert without == []
