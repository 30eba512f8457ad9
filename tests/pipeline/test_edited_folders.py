"""A folder of code is one hash in dvc.lock: impact and check still name the file that was
edited.
"""

import json
import subprocess
from pathlib import Path

import pytest

from pipeline.declared.file_trees import GitTree, WorkingTree
from pipeline.declared.lockfile import Graph, directory_hash, md5_of

DVC_YAML = """
stages:
  one:
    cmd: python -m stages.one
    deps: [model/network]
    outs: [out]
"""


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def record(root: Path) -> None:
    """Write the dvc.lock of a run of the code as it is."""
    code = root / "model/network"
    files = {path.name: md5_of(path.read_bytes()) for path in code.glob("*.py")}
    dep = {"path": "model/network", "hash": "md5", "md5": directory_hash(files)}
    out = {"path": "out", "hash": "md5", "md5": "0"}
    entry = {"cmd": "python -m stages.one", "deps": [dep], "outs": [out]}
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": {"one": entry}}))


@pytest.fixture
def project(tmp_path) -> Path:
    root = tmp_path / "project"
    (root / "model/network").mkdir(parents=True)
    for name in ("gpt", "batches"):
        (root / f"model/network/{name}.py").write_text(f"NAME = '{name}'\n")
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text("a: 1\n")
    (root / ".dvcignore").write_text("__pycache__\n")
    record(root)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


def reasons(root: Path) -> list[str]:
    return Graph(WorkingTree(root)).stale().get("one", [])


def test_nothing_has_changed(project):
    (project / "model/network/__pycache__").mkdir()
    (project / "model/network/__pycache__/gpt.pyc").write_bytes(b"x")
    assert reasons(project) == []


def test_an_edited_a_new_and_a_removed_file_are_named(project):
    (project / "model/network/gpt.py").write_text("NAME = 'other'\n")
    assert reasons(project) == ["model/network/gpt.py has changed"]
    (project / "model/network/new.py").write_text("")
    (project / "model/network/batches.py").unlink()
    assert reasons(project) == [
        "model/network/batches.py is gone",
        "model/network/gpt.py has changed",
        "model/network/new.py is new",
    ]


def test_the_edited_file_is_named_after_commits_that_were_not_run(project):
    (project / "model/network/gpt.py").write_text("NAME = 'other'\n")
    git(project, "commit", "-qam", "second")
    (project / "model/network/batches.py").write_text("NAME = 'other'\n")
    git(project, "commit", "-qam", "third")
    edited = ["model/network/batches.py has changed", "model/network/gpt.py has changed"]
    assert reasons(project) == edited
    between = Graph(GitTree(project, "HEAD~1"), GitTree(project, "HEAD~2"))
    assert between.stale() == {"one": ["model/network/gpt.py has changed"]}


def test_a_run_of_code_that_was_never_committed_names_the_folder(project):
    """No listing has the recorded hash: naming a file would be a guess."""
    gpt = project / "model/network/gpt.py"
    committed = gpt.read_text()
    gpt.write_text("NAME = 'never committed'\n")
    record(project)
    assert reasons(project) == []
    gpt.write_text(committed)
    assert reasons(project) == ["model/network has changed"]


def test_without_git_the_folder_is_named(project):
    (project / ".git").rename(project / "was_git")
    (project / "model/network/gpt.py").write_text("NAME = 'other'\n")
    assert reasons(project) == ["model/network has changed"]
