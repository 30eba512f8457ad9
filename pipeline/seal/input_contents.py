"""What an input is known by while a stage runs, and between a killed run and the next.

Files, and folders of code, are known by content: `git switch` to another branch and back changes
no input, and an edit that keeps a file's size and time does. Folders of data may be too large to
read for each piece of work; they are known by the sizes and times of their files.
"""

import hashlib
from pathlib import Path

from pipeline.declared.code_imports import is_code
from pipeline.declared.file_trees import WorkingTree, without_ignored

Known = str | list[tuple[str, int, int]] | None


def known_by(root: Path, dep: str) -> dict[str, Known]:
    """Return what the dependency `dep` is known by: {path: value}, with a path for each code file.

    A file that is not there has None. Raises OSError where a file cannot be read.
    """
    if not (root / dep).is_dir():
        return {dep: file_sha256(root / dep)}
    if not is_code(dep):
        return {dep: _sizes_and_times(root / dep)}
    tree = WorkingTree(root)
    # The files that DVC hashes, without the bytecode that Python may write while the stage runs.
    hashed = without_ignored(tree, tree.files(dep))
    return {path: file_sha256(root / path) for path in hashed if "/__pycache__/" not in path}


def file_sha256(path: Path) -> str | None:
    """Return the SHA-256 of a file, None if it is not there."""
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
