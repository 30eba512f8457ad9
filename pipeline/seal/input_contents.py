"""How the seal recognises a changed input, during a run and between a killed run and the next.

A file, or a folder of code, is compared by content. So `git switch` to another branch and back
changes nothing, and an edit that keeps size and time is noticed. A folder of data is compared by
its files' sizes and times, because reading it for each piece of work may take too long.
"""

import hashlib
from pathlib import Path

from pipeline.declared.code_imports import is_code
from pipeline.declared.file_trees import WorkingTree, without_ignored

Known = str | list[tuple[str, int, int]] | None


def known_by(root: Path, dep: str) -> dict[str, Known]:
    """Return {path: hash, or sizes and times} for the dependency `dep`.

    A folder of code has a path for each of its files. A missing file has None. Raises OSError if a
    file cannot be read.
    """
    if not (root / dep).is_dir():
        return {dep: file_sha256(root / dep)}
    if not is_code(dep):
        return {dep: _sizes_and_times(root / dep)}
    tree = WorkingTree(root)
    # What DVC hashes, without the bytecode that Python may write while the stage runs.
    hashed = without_ignored(tree, tree.files(dep))
    return {path: file_sha256(root / path) for path in hashed if "/__pycache__/" not in path}


def file_sha256(path: Path) -> str | None:
    """Return the SHA-256 of a file; None if it is missing."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _sizes_and_times(folder: Path) -> list[tuple[str, int, int]]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            found.append((path.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns))
    return found
