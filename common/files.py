"""Atomic writes and content hashes: an output is complete or missing, and verified when read.

How an output is written, so that a kill or a power cut never leaves a part of it under its name:

1. Write into a temporary sibling, `.NAME.partial`.
2. fsync it, which waits until its content is on the disk.
3. Rename it to NAME. A file replaces the old one in one step; an old directory is removed first.
4. fsync the folder, so that the new name is on the disk too.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from common.errors import PipelineError, printable

# The name and format of coreutils, so that `sha256sum -c SHA256SUMS` checks a directory too.
CHECKSUMS = "SHA256SUMS"
# An environment variable of the seal (pipeline/seal/sealed_stage.py): the outputs of other stages
# that this stage reads, one per line.
MADE = "PIPELINE_MADE"
# An environment variable of the seal: this run's scratch folder (model/runtime/resumable.py).
SCRATCH = "PIPELINE_SCRATCH"


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary sibling of `path` for bytes; on success fsync it and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _fsync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling directory; on success fsync it and rename it to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    # An existing directory is emptied and reused: the seal (pipeline/seal/sealed_stage.py) has
    # given write access to exactly this one.
    partial.mkdir(exist_ok=True)
    for leftover in partial.iterdir():
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    try:
        yield partial
        for entry in sorted(partial.rglob("*")):
            _fsync(entry)
        _fsync(partial)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(partial, path)
        _fsync(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def partial_of(path: str) -> str:
    """Return the temporary sibling of `path`: data/items becomes data/.items.partial."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.partial")


def _partial(path: Path) -> Path:
    """Return the temporary sibling of `path`; raise PipelineError if it is a link."""
    partial = Path(partial_of(str(path)))
    # Writing through a link would empty or overwrite its target.
    if partial.is_symlink():
        raise PipelineError(
            f"{partial}: is a link, where a temporary output is to be made; move the link elsewhere"
        )
    return partial


@contextmanager
def checksummed_directory(path: Path) -> Iterator[Path]:
    """Act as `atomic_directory`, and write the files' SHA-256 to SHA256SUMS for `verified`."""
    with atomic_directory(path) as partial:
        yield partial
        write_checksums(partial)


def write_checksums(directory: Path) -> None:
    """Write SHA256SUMS with a line for each file below `directory`, sorted by name."""
    lines = [
        f"{sha256_file(file)}  {file.relative_to(directory).as_posix()}\n"
        for file in _files(directory)
    ]
    (directory / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def verified(path: Path, checksums: dict[str, str] | None = None) -> Path:
    """Return `path`, a file of a checksummed directory, after checking its SHA-256.

    Readers of many files pass `checksums`, the result of `read_checksums`, to read SHA256SUMS only
    once. Raises PipelineError if the bytes are not those written.
    """
    if checksums is None:
        checksums = read_checksums(path.parent)
    expected = checksums.get(path.name)
    if expected is None or not os.path.isfile(path) or sha256_file(path) != expected:
        raise _altered(path)
    return path


def verified_directory(directory: Path) -> Path:
    """Return `directory` after checking every file in it.

    Raises PipelineError if a file differs, is missing, or is not listed in SHA256SUMS.
    """
    checksums = read_checksums(directory)
    for file in sorted({directory / name for name in checksums} | {*_files(directory)}):
        name = file.relative_to(directory).as_posix()
        if name not in checksums:
            shown = printable(str(file))
            raise PipelineError(
                f"{shown}: {CHECKSUMS} beside it does not list it; move it out of {directory}"
            )
        if not os.path.isfile(file) or sha256_file(file) != checksums[name]:
            raise _altered(file)
    return directory


def read_checksums(directory: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a checksummed directory, by name.

    Raises PipelineError if SHA256SUMS is missing or damaged.
    """
    path = directory / CHECKSUMS
    try:
        # A complete file ends with a line break, so the last part is empty.
        *lines, end = path.read_bytes().decode().split("\n")
        pairs = [line.split("  ", 1) for line in lines]
        if end:
            raise ValueError("the last line is not whole")
        if any(
            PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts
            for _, name in pairs
        ):
            raise ValueError("a name leads out of the directory")
        return {name: digest for digest, name in pairs}
    except (OSError, ValueError):
        raise _altered(path) from None


def _files(directory: Path) -> list[Path]:
    return sorted(
        path for path in directory.rglob("*") if path.is_file() and path != directory / CHECKSUMS
    )


def _altered(path: Path) -> PipelineError:
    return PipelineError(
        f"{printable(str(path))}: missing or altered since it was written; {way_back(path.parent)}"
    )


def way_back(directory: Path) -> str:
    """Return advice about a directory whose content is not what its stage wrote.

    It advises deleting only if the seal lists the directory as an output that a stage can make
    again. Any other directory may be the only copy.
    """
    made = os.environ.get(MADE, "").split("\n")
    if any(
        directory.as_posix() == out or directory.as_posix().startswith(f"{out}/")
        for out in made
        if out
    ):
        return f"delete {directory} and run dvc repro; if the error returns, run make cache first"
    return (
        f"if a stage writes {directory}, move it aside and run dvc repro; "
        "otherwise keep it: git or the place that it came from has it as it was"
    )


def json_bytes(value: Any) -> bytes:
    """Return canonical JSON: sorted keys, two-space indent, UTF-8, final newline; no NaN."""
    text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def write_json(path: Path, value: Any) -> None:
    """Write canonical JSON atomically."""
    write_bytes(path, json_bytes(value))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object per line, atomically, with keys in the order given."""
    with atomic_file(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` atomically."""
    with atomic_file(path) as file:
        file.write(content)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of a checksummed directory, in order.

    Raises PipelineError if the file was altered, or if a line is not a JSON object.
    """
    try:
        with open(verified(path), encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is not an object")
    except (ValueError, RecursionError) as error:
        raise PipelineError(f"{path}: not JSON lines ({error}); {way_back(path.parent)}") from None
    return rows


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
