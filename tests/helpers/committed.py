"""Read the committed files from git's index, not from the working tree.

`make repro` rewrites metrics/, plots/ and dvc.lock with this processor's figures. So tests of
committed figures read the index, and compare committed files with committed files.
"""

import subprocess
from functools import cache
from pathlib import Path

import pytest
from repository import REPOSITORY

from pipeline.declared.file_trees import GitTree


@cache
def _index(root: Path) -> GitTree | str:
    """Return the index of the repository at `root`, or the reason why it cannot be read."""
    try:
        tree = GitTree(root)
        unmerged = subprocess.check_output(["git", "ls-files", "--unmerged"], cwd=root, text=True)
    except FileNotFoundError:
        return "git is not installed"
    except ValueError as error:
        return f"git cannot read the repository ({' '.join(str(error).split())})"
    if unmerged:
        return "git's index has unmerged files"
    return tree if tree.has("dvc.lock") else "git does not track this tree"


def committed_tree(root: Path = REPOSITORY) -> GitTree:
    """Return the files of the next commit; skip the test if git cannot tell."""
    found = _index(root)
    if isinstance(found, str):
        pytest.skip(f"the committed files are unknown: {found}")
    return found


def committed_text(path: str) -> str:
    """Return the committed content of a file; in a tree without git, that on disk."""
    found = _index(REPOSITORY)
    return (REPOSITORY / path).read_text() if isinstance(found, str) else found.read(path).decode()


def check_out(target: Path, *names: str) -> None:
    """Write the committed files below `names` to the folder `target`; skip the test without git."""
    tree = committed_tree()
    for path in [name for name in names if tree.has(name)] + tree.files(*names):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(tree.read(path))
