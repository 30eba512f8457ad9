"""Make repositories of the committed text, or of the working tree with committed results."""

import subprocess
from pathlib import Path

import pytest
from committed import check_out, committed_tree
from repository import REPOSITORY

from pipeline.check import result_findings
from pipeline.declared.dvc_yaml import LINK
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import CONTENTS
from tools.repository_copy import copy_repository

RESULTS = ("params.yaml", "dvc.lock", CONTENTS, "metrics", "plots")
TEXT = (*RESULTS, "dvc.yaml", LINK, "libraries.yaml", ".dvcignore", "common", "model", "stages")


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True
    ).stdout


@pytest.fixture
def copy(tmp_path) -> Path:
    """Return a repository with the committed text, without data."""
    check_out(tmp_path, *TEXT)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "results")
    assert result_findings(WorkingTree(tmp_path)) == []
    return tmp_path


def committed_clone(directory: Path) -> Path:
    """Commit the working tree, with committed parameters and results, to a new repository.

    Skips the test if git cannot tell what is committed.
    """
    committed_tree()
    copy_repository(REPOSITORY, directory, leave_out=RESULTS)
    check_out(directory, *RESULTS)
    git(directory, "add", "-A")
    git(directory, "commit", "-qm", "tree")
    return directory
