"""The merge of two dvc.lock: what one side changed is taken, what both changed is dropped; git's
part is test_hooks.py's.
"""

import subprocess
import sys

import pytest
from committed import committed_text
from dvc.utils.serialize import dumps_yaml, loads_yaml
from repository import REPOSITORY

from pipeline.dvc_support.merge_lock import merge


def lock(**stages: int) -> str:
    """Return a dvc.lock as DVC writes it, in which a stage has one output of that hash."""
    entries = {
        name: {"cmd": name, "outs": [{"path": name, "hash": "md5", "md5": str(md5), "size": 1}]}
        for name, md5 in stages.items()
    }
    return dumps_yaml({"schema": "2.0", "stages": entries}) if entries else ""


BASE = {"a": 1, "b": 1}
CASES = {
    "nothing": (BASE, BASE, BASE, []),
    "ours": ({**BASE, "a": 2}, BASE, {**BASE, "a": 2}, []),
    "theirs": (BASE, {**BASE, "b": 2}, {**BASE, "b": 2}, []),
    "each another": ({**BASE, "a": 2}, {**BASE, "b": 3}, {"a": 2, "b": 3}, []),
    "both the same": ({**BASE, "a": 2}, {**BASE, "a": 2}, {**BASE, "a": 2}, []),
    "both differently": ({**BASE, "a": 2}, {**BASE, "a": 3}, {"b": 1}, ["a"]),
    "ours is new": ({**BASE, "c": 1}, BASE, {**BASE, "c": 1}, []),
    "each has a new one": ({**BASE, "c": 1}, {**BASE, "d": 1}, {**BASE, "c": 1, "d": 1}, []),
    "both have a new one": ({**BASE, "c": 1}, {**BASE, "c": 2}, BASE, ["c"]),
    "theirs is gone": (BASE, {"a": 1}, {"a": 1}, []),
    "gone and changed": ({"a": 1}, {**BASE, "b": 2}, {"a": 1}, ["b"]),
    "all dropped": ({"a": 2, "b": 2}, {"a": 3, "b": 3}, {}, ["a", "b"]),
}


@pytest.mark.parametrize("case", CASES)
def test_stages_are_merged_one_by_one(case):
    ours, theirs, merged, dropped = CASES[case]
    text, names = merge(lock(**BASE), lock(**ours), lock(**theirs))
    assert names == dropped
    assert text == lock(**merged) or (not merged and loads_yaml(text)["stages"] == {})
    assert merge(text, text, text) == (text, [])


def test_two_locks_without_an_ancestor_are_merged():
    assert merge("", lock(a=1, b=1), lock(a=1, c=1)) == (lock(a=1, b=1, c=1), [])


def test_the_committed_lock_merged_with_itself_is_itself():
    text = committed_text("dvc.lock")
    assert merge(text, text, text) == (text, [])
    assert merge("", text, text) == (text, [])


def test_a_lock_that_dvc_did_not_write_is_left_as_it_is(tmp_path):
    texts = {"ancestor": lock(a=1), "ours": "# a remark\n" + lock(a=2), "theirs": lock(a=3)}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pipeline.dvc_support.merge_lock"]
    done = subprocess.run(
        [*command, *(str(tmp_path / name) for name in texts)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, "so git says that there is a conflict"
    assert (
        done.stderr
        == "error: dvc.lock: cannot be merged (not laid out as DVC writes it); take one side, then"
        " run make repro\n"
    )
    assert (tmp_path / "ours").read_text() == texts["ours"]
