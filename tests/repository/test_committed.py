"""Tests of committed figures read git's index, so that a run on another processor fails none
(tests/helpers/committed.py).
"""

import re
import subprocess
from pathlib import Path

import pytest
from committed import committed_text, committed_tree
from repository import REPOSITORY

AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def git(root: Path, *arguments: str, check: bool = True) -> None:
    subprocess.run(["git", *AUTHOR, *arguments], cwd=root, check=check, capture_output=True)


def commit(root: Path, text: str) -> None:
    (root / "dvc.lock").write_text(text)
    git(root, "add", "dvc.lock")
    git(root, "commit", "--quiet", "--message", text)


@pytest.fixture
def repository(tmp_path) -> Path:
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    commit(tmp_path, "committed")
    return tmp_path


def test_what_a_run_wrote_is_not_what_is_committed(repository):
    (repository / "dvc.lock").write_text("another processor's")
    assert committed_tree(repository).read("dvc.lock") == b"committed"
    (repository / "dvc.lock").unlink()
    assert committed_tree(repository).read("dvc.lock") == b"committed"


def test_what_is_to_be_committed_counts(repository):
    (repository / "dvc.lock").write_text("to be committed")
    git(repository, "add", "dvc.lock")
    assert committed_tree(repository).read("dvc.lock") == b"to be committed"


def test_without_git_the_test_is_skipped_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(
        pytest.skip.Exception,
        match=r"committed files are unknown: git cannot read the repository .*not a git",
    ):
        committed_tree(tmp_path)
    (tmp_path / "other").mkdir()
    git(tmp_path, "init", "--quiet")
    with pytest.raises(pytest.skip.Exception, match="git does not track this tree"):
        committed_tree(tmp_path / "other")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "third").mkdir()
    with pytest.raises(pytest.skip.Exception, match="git is not installed"):
        committed_tree(tmp_path / "third")


def test_a_merge_under_way_is_skipped_with_the_reason(repository):
    git(repository, "switch", "--quiet", "--create", "theirs")
    commit(repository, "theirs")
    git(repository, "switch", "--quiet", "main")
    commit(repository, "ours")
    git(repository, "merge", "theirs", check=False)
    with pytest.raises(pytest.skip.Exception, match="git's index has unmerged files"):
        committed_tree(repository)


def test_no_test_reads_figures_from_the_disk():
    """Metrics, plots and README's figures on disk are the last run's, params.yaml may be edited;
    tests of them read the index.
    """
    reads = re.compile(r"""REPOSITORY / f?["'](?:metrics|plots|dvc\.lock|params\.yaml)\b""")
    allowed = {
        "test_committed.py",  # this one
        "test_driver_lock.py",  # a lock, whosever
        "test_merge_lock.py",  # the same
        "test_experiments.py",  # the names of parameters
        "test_fuzz_inputs.py",  # something to damage
        "test_params.py",  # is it valid?
        "test_probes.py",  # does it fit?
    }
    found = {
        path.name for path in (REPOSITORY / "tests").rglob("*.py") if reads.search(path.read_text())
    }
    assert found <= allowed, "read committed_tree() or committed_text()"
    assert "conditions" in committed_text("params.yaml")
