"""`make repro`'s dvc.lock is `dvc repro`'s to the byte, whatever stage comes and whatever the lock looks like."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY
from dvc.utils.serialize import dumps_yaml, loads_yaml, modify_yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from test_pipeline import ENVIRONMENT, shell

from graph.dvc_repro import by_entry

COMMITTED = (REPOSITORY / "dvc.lock").read_text()
ENTRIES = yaml.safe_load(COMMITTED)["stages"]
# A number, a date or a truth to YAML, of which a hash may look like some, and what is written in several lines.
STRINGS = st.text(max_size=200) | st.sampled_from(
    ["12e45678", "0x1f", "1_000", "2026-01-01", "yes", "~", "a\nb\n", "\n\n", "  x: 1\n"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | STRINGS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc-._/", min_size=1), inner, max_size=3),
    max_leaves=6,
)


def both(folder: Path, text: str | None, name: str, entry: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return what DVC's writer and ours make of a lock that gets an entry, as DVC sets it."""
    written = []
    for kind, modify in (("dvc", modify_yaml), ("ours", by_entry(modify_yaml))):
        (folder / kind).mkdir(exist_ok=True)
        lock = folder / kind / "dvc.lock"
        lock.unlink(missing_ok=True)
        if text is not None:
            lock.write_text(text)
        with modify(str(lock)) as data:
            data.setdefault("schema", "2.0")
            data["stages"] = data.get("stages", {})
            data["stages"].update({name: entry})
        written.append(lock.read_bytes())
    return written[0], written[1]


@pytest.mark.parametrize("name", [next(iter(ENTRIES)), list(ENTRIES)[20], list(ENTRIES)[-1], "other@new-1"])
def test_an_entry_comes_into_the_committed_lock_as_dvc_writes_it(tmp_path, name):
    entry = {**ENTRIES["corpus"], "cmd": "another"}
    whole, ours = both(tmp_path, COMMITTED, name, entry)
    assert ours == whole
    assert loads_yaml(ours)["stages"][name]["cmd"] == "another"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "schema: '2.0'\nstages: {}\n",
        "schema: '2.0'\nstages: {a: {cmd: x}, b: {cmd: y}}\n",
        "# by hand\nschema: '2.0'\nstages:\n    a:\n        cmd: x\n    b:\n        cmd: y\n",
        "schema: '2.0'\nstages:\n  a: {cmd: x}\n  b:\n    cmd: y\ndatasets: []\n",
    ],
    ids=["none", "empty", "in braces", "indented by hand", "something behind the stages"],
)
def test_a_lock_that_is_laid_out_otherwise_says_what_dvc_means(tmp_path, text):
    whole, ours = both(tmp_path, text, "a", {"cmd": "new"})
    assert loads_yaml(ours) == loads_yaml(whole)
    assert loads_yaml(ours)["stages"]["a"] == {"cmd": "new"}


@settings(max_examples=200)
@given(entry=st.dictionaries(st.text("abc", min_size=1), VALUES, min_size=1, max_size=3), last=st.booleans())
def test_any_entry_comes_in_as_dvc_writes_it(tmp_path_factory, entry, last):
    text = dumps_yaml({"schema": "2.0", "stages": {"a": {"cmd": "x"}, "b": {"cmd": "y"}}})
    whole, ours = both(tmp_path_factory.getbasetemp(), text, "b" if last else "a", entry)
    assert loads_yaml(ours) == loads_yaml(whole)


def project(root: Path) -> Path:
    """Two stages of which the second fails where there is a file `fails`, and what the two commands need."""
    for name in ("graph", "model"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shell(["git", "init", "-q"], root)
    shell(["dvc", "init", "-q"], root)
    stages = {
        "first": {"cmd": "cat in > first", "deps": ["in"], "outs": ["first"]},
        "second": {"cmd": "test ! -e fails && cat first > second", "deps": ["first"], "outs": ["second"]},
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    return root


def history(root: Path, command: list[str]) -> list[tuple[int, str, bytes]]:
    """Return status, output and lock of a run, one after an edit that fails, of that mended, and with nothing to do."""
    states = []
    for content, fails in (("1", False), ("2", True), ("2", False), ("2", False)):
        (root / "in").write_text(content)
        (root / "fails").touch() if fails else (root / "fails").unlink(missing_ok=True)
        done = subprocess.run(command, cwd=root, env=ENVIRONMENT, text=True, capture_output=True)
        states.append((done.returncode, done.stdout, (root / "dvc.lock").read_bytes()))
    return states


def test_it_runs_what_dvc_repro_runs_and_leaves_the_same_lock(tmp_path):
    ours = history(project(tmp_path / "ours"), [sys.executable, "-m", "graph.dvc_repro"])
    assert ours == history(project(tmp_path / "dvc"), ["dvc", "repro"])
    assert [status == 0 for status, *_ in ours] == [True, False, True, True]
