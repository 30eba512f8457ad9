"""The driver's dvc.lock is `dvc repro`'s to the byte, whatever stage comes and whatever the lock
looks like.
"""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml, loads_yaml, modify_yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from micro_graph import ENVIRONMENT, shell
from repository import REPOSITORY

from pipeline.dvc_support.lock_entries import LockEntries, replace_text, with_entries

pytestmark = pytest.mark.slow("dvc writes dvc.lock after every stage, as the reference", minutes=1)

COMMITTED = (REPOSITORY / "dvc.lock").read_text()
Entry = tuple[str, dict[str, Any]]
ENTRIES = yaml.safe_load(COMMITTED)["stages"]
# A number, a date or a truth to YAML, of which a hash may look like some, and what is written in
# several lines.
STRINGS = st.text(max_size=200) | st.sampled_from(
    ["12e45678", "0x1f", "1_000", "2026-01-01", "yes", "~", "a\nb\n", "\n\n", "  x: 1\n"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | STRINGS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc-._/", min_size=1), inner, max_size=3)
    ),
    max_leaves=6,
)


A_FEW = dumps_yaml({"schema": "2.0", "stages": dict(list(ENTRIES.items())[:4])})
SHARED = {"k": [1, 2]}


def dvcs(lock: Path, entries: list[Entry]) -> None:
    """Write one entry after another, as DVC does it."""
    for name, entry in entries:
        with modify_yaml(str(lock)) as data:
            data.setdefault("schema", "2.0")
            data["stages"] = data.get("stages", {})
            data["stages"].update({name: entry})


def ours(lock: Path, entries: list[Entry]) -> None:
    writer = LockEntries()
    for name, entry in entries:
        replace_text(lock, lambda text, one={name: entry}: writer.with_entries(text, one))


def both(folder: Path, text: str | None, *entries: Entry) -> tuple[bytes, bytes]:
    """Return what DVC's writer and ours make of a lock."""
    locks = []
    for write in (dvcs, ours):
        lock = folder / write.__name__ / "dvc.lock"
        lock.parent.mkdir(exist_ok=True)
        lock.unlink(missing_ok=True)
        if text is not None:
            lock.write_text(text)
        write(lock, [*entries])
        locks.append(lock.read_bytes())
    return locks[0], locks[1]


@pytest.mark.parametrize(
    "name", [next(iter(ENTRIES)), list(ENTRIES)[20], list(ENTRIES)[-1], "other@new-1"]
)
def test_an_entry_comes_into_the_committed_lock_as_dvc_writes_it(tmp_path, name):
    entry = {**ENTRIES["corpus"], "cmd": "another"}
    whole, mine = both(tmp_path, COMMITTED, (name, entry))
    assert mine == whole
    assert with_entries(COMMITTED, {name: entry}).encode() == whole, (
        "and no other is written for it"
    )


def test_entries_follow_one_another(tmp_path):
    changes = [(name, {**ENTRIES[name], "cmd": "another"}) for name in list(ENTRIES)[:4]] * 2
    whole, mine = both(tmp_path, COMMITTED, *changes, ("params", ENTRIES["params"]))
    assert mine == whole


def test_an_edit_of_the_lock_between_two_entries_stays():
    writer = LockEntries()
    text = writer.with_entries(COMMITTED, {"params": {"cmd": "first"}})
    edited = text.replace("python -m stages.corpus", "python -m stages.other")
    text = writer.with_entries(edited, {"items": {"cmd": "second"}})
    assert loads_yaml(text)["stages"]["corpus"]["cmd"] == "python -m stages.other"
    text = writer.with_entries(text, {"fetch": {"share": SHARED, "d": SHARED}})
    assert loads_yaml(text)["stages"]["corpus"]["cmd"] == "python -m stages.other"
    assert loads_yaml(text)["stages"]["items"] == {"cmd": "second"}


def test_entries_have_the_order_of_dvc_repro_from_nothing_whoever_ran_first():
    writer, text = LockEntries(["a", "b", "c"]), ""
    for name in ("c", "old", "a", "b"):
        text = writer.with_entries(text, {name: {"cmd": name}})
    assert list(loads_yaml(text)["stages"]) == ["a", "b", "c", "old"]
    assert LockEntries(["b", "a"]).with_entries(text, {"a": {"cmd": "new"}}).index("  b:") == len(
        "schema: '2.0'\nstages:\n"
    )


@pytest.mark.parametrize(
    "text",
    [A_FEW, dumps_yaml({"schema": "2.0", "stages": {"a": {"cmd": "x"}}})],
    ids=["ours", "one"],
)
@pytest.mark.parametrize("name", ["2024", "null", "a@z:", "a@b c", "a@#", "-a", "a" * 200, "a"])
@pytest.mark.parametrize(
    "entry",
    [{"cmd": "y"}, {"x": SHARED, "y": SHARED}, {"x": math.nan}],
    ids=["plain", "shared", "NaN"],
)
def test_names_in_quotes_and_references_leave_a_lock_that_dvc_reads(tmp_path, text, name, entry):
    """YAML writes what occurs twice once, and refers to it by a name that has to be another in
    every entry.
    """
    other = {"x": entry.get("x", 0), "z": SHARED, "w": SHARED}
    whole, mine = both(
        tmp_path,
        text,
        (name, entry),
        (name, {**entry, "v": 2}),
        ("other", other),
        ("a", {"cmd": "z"}),
    )
    assert mine == whole
    assert list(loads_yaml(mine)["stages"]) == list(
        dict.fromkeys([*loads_yaml(text)["stages"], name, "other", "a"])
    )
    assert yaml.safe_load(mine)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "schema: '2.0'\nstages: {}\n",
        "schema: '2.0'\nstages: {a: {cmd: x}, b: {cmd: y}}\n",
        "# by hand\nschema: '2.0'\nstages:\n    a:\n        cmd: x\n    b:\n        cmd: y\n",
        "schema: '2.0'\nstages:\n  a: {cmd: x}\n  b:\n    cmd: y\ndatasets: []\n",
        "schema: '2.0'\nstages:\n  a:\n    cmd: x\n  b:\n    cmd: y",
    ],
    ids=[
        "none",
        "nothing in it",
        "empty",
        "in braces",
        "indented by hand",
        "something behind the stages",
        "no last newline",
    ],
)
def test_a_lock_that_is_laid_out_otherwise_becomes_what_dvc_makes_of_it(tmp_path, text):
    whole, mine = both(tmp_path, text, ("a", {"cmd": "new"}))
    assert mine == whole
    assert loads_yaml(mine)["stages"]["a"] == {"cmd": "new"}


@settings(max_examples=200)
@given(
    entry=st.dictionaries(st.text("abc", min_size=1), VALUES, min_size=1, max_size=3),
    last=st.booleans(),
)
def test_any_entry_comes_in_as_dvc_writes_it(tmp_path_factory, entry, last):
    text = dumps_yaml({"schema": "2.0", "stages": {"a": {"cmd": "x"}, "b": {"cmd": "y"}}})
    whole, mine = both(tmp_path_factory.getbasetemp(), text, ("b" if last else "a", entry))
    assert mine == whole


@pytest.mark.parametrize("text", [COMMITTED, "stages: {}\n"], ids=["DVC's", "by hand"])
def test_a_lock_is_replaced_whole_and_never_written_in_place(tmp_path, text):
    lock = tmp_path / "dvc.lock"
    lock.write_text(text)
    with open(lock, "rb") as before:
        ours(lock, [("a", {"cmd": "new"})])
        assert before.read() == text.encode() != lock.read_bytes()


def project(root: Path) -> Path:
    """Two stages of which the second fails where there is a file `fails`, and what the two commands
    need.
    """
    for name in ("pipeline", "common", "model"):
        shutil.copytree(
            REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shell(["git", "init", "-q"], root)
    shell(["dvc", "init", "-q"], root)
    stages = {
        "first": {"cmd": "cat in > first", "deps": ["in"], "outs": ["first"]},
        "second": {
            "cmd": "test ! -e fails && cat first > second",
            "deps": ["first"],
            "outs": ["second"],
        },
    }
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    return root


def history(root: Path, command: list[str]) -> list[tuple[bool, bytes]]:
    """Return status and lock of a run, one after an edit that fails, of that mended, and with
    nothing to do.
    """
    states = []
    for content, fails in (("1", False), ("2", True), ("2", False), ("2", False)):
        (root / "in").write_text(content)
        (root / "fails").touch() if fails else (root / "fails").unlink(missing_ok=True)
        done = subprocess.run(command, cwd=root, env=ENVIRONMENT, capture_output=True)
        states.append((done.returncode == 0, (root / "dvc.lock").read_bytes()))
    return states


def test_it_runs_what_dvc_repro_runs_and_leaves_the_same_lock(tmp_path):
    driver = history(project(tmp_path / "ours"), [sys.executable, "-m", "pipeline.driver"])
    assert driver == history(project(tmp_path / "dvc"), ["dvc", "repro"])
    assert [done for done, _ in driver] == [True, False, True, True]


def test_the_lock_of_a_run_is_another_file_and_the_one_before_is_whole(tmp_path):
    root = project(tmp_path)
    (root / "in").write_text("1")
    shell([sys.executable, "-m", "pipeline.driver"], root)
    (root / "in").write_text("2")
    with open(root / "dvc.lock", "rb") as before:
        shell([sys.executable, "-m", "pipeline.driver"], root)
        assert os.fstat(before.fileno()).st_nlink == 0
        assert list(loads_yaml(before.read())["stages"]) == ["first", "second"]


HOLDER = """
import time
from dvc.repo import Repo
from dvc.utils.serialize import modify_yaml
with Repo(".") as repo, repo.lock:
    print("held", flush=True)
    time.sleep(5)
    with modify_yaml("dvc.lock") as data:
        data["stages"]["second"] = {"cmd": "meanwhile"}
"""


@pytest.mark.parametrize("what", ["order", "record"])
def test_what_another_dvc_writes_while_the_lock_is_put_right_is_kept(tmp_path, what):
    """Both wait for DVC's own lock, and read only then."""
    root = project(tmp_path)
    (root / "params.yaml").write_text("seeds: [1]\n")
    entries = {
        name: {"cmd": "x"} for name in ("second", "first", *(["gone"] if what == "record" else []))
    }
    (root / "dvc.lock").write_text(dumps_yaml({"schema": "2.0", "stages": entries}))
    change = {
        "order": (
            "from pathlib import Path; from pipeline.dvc_support.lock_entries import *;"
            " rewrite_lock(Path(), lambda text: LockEntries(['first', 'second'])"
            ".with_entries(text, {'first': {'cmd': 'x'}}))"
        ),
        "record": (
            "import sys, pipeline.dvc_support.record; sys.argv = ['', 'lock'];"
            " pipeline.dvc_support.record.main()"
        ),
    }[what]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=root, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        shell([sys.executable, "-c", change], root)
        assert "meanwhile" in (root / "dvc.lock").read_text(), "it has waited"
    found = loads_yaml((root / "dvc.lock").read_text())["stages"]
    assert list(found.items()) == sorted(
        {"first": {"cmd": "x"}, "second": {"cmd": "meanwhile"}}.items(), reverse=what == "record"
    )
