"""Pieces: what a killed run has finished, and the next run of the same work need not make again.

A piece is a directory in the scratch folder of one run:
    work.json       what the piece belongs to: the run, its name there, the machine
    SHA256SUMS      of all its files; written last, so a directory without it is incomplete
    and the files that the stage makes
The seal (pipeline/seal/scratch_folder.py) names the scratch folder by a fingerprint of all that the
stage depends on, so that other work has another folder. No other module knows the format.
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

    `run` is the name of the scratch folder, `piece` the path in it, and `machine` the hardware that
    chose the last bits, None where no bit depends on it.
    """

    machine: str | None
    piece: str
    run: str


@contextmanager
def scratch_directory(output: Path) -> Iterator[Path]:
    """Yield the folder for pieces of `output`, and remove it unless the block raises.

    Without a seal nothing tells which work left pieces belong to: the folder is then a new, empty
    sibling of `output`, `.NAME.scratch`.
    """
    sealed = os.environ.get(SCRATCH)
    siblings = output.with_name(f".{output.name}.scratch")
    directory = Path(sealed) if sealed else siblings
    if not sealed:
        shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    finished = False
    try:
        yield directory
        finished = True
    finally:
        if finished or not sealed:
            shutil.rmtree(directory)
            if directory.parent.name == siblings.name:
                with suppress(OSError):  # the folder of other work is in it
                    directory.parent.rmdir()


def piece(
    scratch: Path, name: str, make: Callable[[Path], None], machine: str | None = None
) -> Path:
    """Return the piece `name` of `scratch`, made by `make` unless a killed run has finished it.

    `make` fills an empty temporary folder, which is renamed when it is complete and on disk. A
    piece that is damaged or of other work is made again.
    """
    directory = scratch / name

    def make_at(place: Path) -> None:
        with atomic_directory(place) as partial:
            make(partial)
            _complete(partial, Work(machine=machine, piece=name, run=scratch.name))

    try:
        verified_piece(scratch, name)
    except PipelineError:
        if SHARE in os.environ:
            _make_beside_others(scratch, name, make_at)
        else:
            make_at(directory)
    return directory


def _make_beside_others(scratch: Path, name: str, make_at: Callable[[Path], None]) -> None:
    """Make a piece that another process may be making at this moment, as a share that is repeated
    on another machine does while the first one still runs.
    """
    shutil.rmtree(scratch / name, ignore_errors=True)  # damaged, or of other work
    scratch.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=scratch))
    make_at(own)
    try:
        os.rename(own, scratch / name)
    except OSError:  # the other process was faster
        shutil.rmtree(own)
        verified_piece(scratch, name)


def complete_piece(scratch: Path, name: str, machine: str | None = None) -> None:
    """Make a piece of the directory `name`, which a library has filled in place."""
    _complete(scratch / name, Work(machine=machine, piece=name, run=scratch.name))


def _complete(directory: Path, work: Work) -> None:
    (directory / _WORK).write_bytes(json_bytes(work.model_dump()))
    # The seal stops the stage here if an input has changed since it started.
    sys.audit("pipeline.piece_done")
    write_checksums(directory)


def verified_piece(scratch: Path, name: str) -> Work:
    """Return what the piece belongs to.

    Raises PipelineError if it is incomplete, damaged, or was not made as `name` of `scratch`.
    """
    directory = verified_directory(scratch / name)
    work = read_json(directory / _WORK, Work)
    if (work.run, work.piece) != (scratch.name, name):
        raise PipelineError(f"{directory}: it is of other work")
    return work


def publish(file: Path, target: Path) -> None:
    """Put a piece's file into an output and leave it in the piece, which a kill may need again.

    A hard link where the file system has them, else a copy.
    """
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def publish_piece(directory: Path, target: Path) -> None:
    """Publish all files of a piece but work.json as the checksummed directory `target`."""
    target.mkdir()
    for file in sorted(directory.iterdir()):
        if file.name not in (_WORK, CHECKSUMS):
            publish(file, target / file.name)
    lines = (directory / CHECKSUMS).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not line.endswith(f"  {_WORK}\n")]
    (target / CHECKSUMS).write_text("".join(kept), encoding="utf-8")
