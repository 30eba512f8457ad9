"""Pieces: finished parts of a run, which the next run of the same work uses after a kill.

A piece is a directory in the scratch folder of one run:
    work.json       what the piece belongs to: the run, its name there, the machine
    SHA256SUMS      of all its files; written last, so a directory without it is incomplete
    …               the files that the stage makes

How a piece is made; a kill at any point leaves no directory that passes for a piece:

    1. empty temporary folder beside the piece's place
    2. the stage's files            3. work.json
    4. the seal checks the inputs   5. SHA256SUMS
    6. files flushed to disk, folder renamed to the piece's name

The seal (pipeline/seal/scratch_folder.py) names the scratch folder by a fingerprint of all that the
stage depends on, so other work has another folder. No other module knows the format.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import PipelineError
from common.files import (
    CHECKSUMS,
    SCRATCH,
    atomic_directory,
    json_bytes,
    verified_directory,
    write_checksums,
)
from common.sections import Section, read_json
from common.share import SHARE

_WORK = "work.json"


class Work(Section):
    """What a piece belongs to.

    `run` is the name of the scratch folder and `piece` the path in it. `machine` is the hardware
    that determines the last bits, None if no bit depends on it.
    """

    machine: str | None
    piece: str
    run: str


@contextmanager
def scratch_directory(output: Path) -> Iterator[Path]:
    """Yield the folder for pieces of `output`; remove it unless the block raises.

    Without a seal nothing says which work older pieces belong to. The folder is then a new, empty
    sibling of `output`, `.NAME.scratch`, and is removed in any case.
    """
    sealed = os.environ.get(SCRATCH)
    # The seal's folders for an output are inside a folder of this name, one for each work.
    siblings = output.with_name(f".{output.name}.scratch")
    directory = Path(sealed) if sealed else siblings
    if not sealed:
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    # An exception in the block leaves `finished` False, and the folder for the next run.
    finished = False
    try:
        yield directory
        finished = True
    finally:
        if finished or not sealed:
            shutil.rmtree(directory)
            if directory.parent.name == siblings.name:
                # rmdir fails if the folder of other work is in it.
                with suppress(OSError):
                    directory.parent.rmdir()


def piece(
    scratch: Path, name: str, make: Callable[[Path], None], machine: str | None = None
) -> Path:
    """Return the piece `name` of `scratch`; make it with `make` unless a killed run finished it.

    `make` fills an empty temporary folder, which is renamed when it is complete and on disk. A
    piece that is damaged or belongs to other work is made again.
    """
    directory = scratch / name

    def make_at(place: Path) -> None:
        with atomic_directory(place) as partial:
            make(partial)
            _complete(partial, Work(machine=machine, piece=name, run=scratch.name))

    try:
        verified_piece(scratch, name)
    except PipelineError:
        # Only the processes of a shared stage may make one piece at the same time.
        if SHARE in os.environ:
            _make_beside_others(scratch, name, make_at)
        else:
            make_at(directory)
    return directory


def _make_beside_others(scratch: Path, name: str, make_at: Callable[[Path], None]) -> None:
    """Make a piece that another process may be making at this moment.

    That happens if a share of the work is started again on another machine while the first one
    still runs (common/share.py). Each process fills a folder of its own, and the first to rename it
    wins; the other uses the winner's piece.
    """
    # What stands there is damaged or belongs to other work: the caller checked it.
    shutil.rmtree(scratch / name, ignore_errors=True)
    scratch.mkdir(parents=True, exist_ok=True)
    # mkdtemp gives each process a name of its own, on the same file system as the piece.
    own = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=scratch))
    make_at(own)
    try:
        # One rename is atomic; it fails if the target is a folder with files.
        os.rename(own, scratch / name)
    except OSError:
        # The other process was faster: a folder with files is at the target.
        shutil.rmtree(own)
        verified_piece(scratch, name)


def complete_piece(scratch: Path, name: str, machine: str | None = None) -> None:
    """Make the directory `name` a piece; a library has filled it in place."""
    _complete(scratch / name, Work(machine=machine, piece=name, run=scratch.name))


def _complete(directory: Path, work: Work) -> None:
    """Add work.json and SHA256SUMS to a directory that has all other files."""
    # Before the checksums, so that they cover it.
    (directory / _WORK).write_bytes(json_bytes(work.model_dump()))
    # The seal stops the stage here if an input has changed since it started.
    sys.audit("pipeline.piece_done")
    write_checksums(directory)


def verified_piece(scratch: Path, name: str) -> Work:
    """Return what the piece `name` of `scratch` belongs to.

    Raises PipelineError if it is missing, incomplete, damaged or of other work.
    """
    directory = verified_directory(scratch / name)
    work = read_json(directory / _WORK, Work)
    if (work.run, work.piece) != (scratch.name, name):
        raise PipelineError(f"{directory}: belongs to other work")
    return work


def publish(file: Path, target: Path) -> None:
    """Put a piece's file into an output and keep it in the piece, which a resumed run may need.

    It is a hard link where the file system has them, else a copy.
    """
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def publish_piece(directory: Path, target: Path) -> None:
    """Publish all files of a piece except work.json as the checksummed directory `target`."""
    target.mkdir()
    for file in sorted(directory.iterdir()):
        if file.name not in (_WORK, CHECKSUMS):
            publish(file, target / file.name)
    # The files' own checksums stay valid, so only the line of work.json is left out.
    lines = (directory / CHECKSUMS).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.endswith(f"  {_WORK}\n")]
    (target / CHECKSUMS).write_text("".join(kept), encoding="utf-8")
