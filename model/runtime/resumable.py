"""Finished pieces of a long stage's work, which outlive a kill: the next run of the same inputs goes on from them."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from common.errors import PipelineError
from common.files import checksummed_directory, verified_directory

# The seal's name for the folder (pipeline/seal/scratch_folder.py), which it knows by all that the stage depends on.
SCRATCH = "PIPELINE_SCRATCH"


@contextmanager
def scratch_directory(output: Path) -> Iterator[Path]:
    """Yield the folder where finished pieces of work on `output` outlive a kill; removed when the block ends without an error.

    The seal names it in the environment (SCRATCH), by a fingerprint of all that the stage depends on; without a seal nothing
    tells whose pieces they are, so it is a fresh temporary sibling of `output` (`.NAME.scratch`).
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
                with suppress(OSError):  # another's piece is in it
                    directory.parent.rmdir()


def piece(directory: Path, make: Callable[[Path], None]) -> Path:
    """Return `directory` as `make` has filled it, now or in a run that was killed.

    Pieces are checksummed directories, verified when reused and made anew when altered: `make` gets an empty temporary
    sibling, which takes the name of `directory` when it is whole and on disk.
    """
    try:
        return verified_directory(directory)
    except PipelineError:
        with checksummed_directory(directory) as partial:
            make(partial)
            sys.audit(
                "pipeline.piece_done"
            )  # the seal refuses what was made of an input that has changed meanwhile
    return directory


def publish(file: Path, target: Path) -> None:
    """Put a piece's file into an output and leave it in the piece: a kill while an output is put together costs no piece.

    Being siblings they are on one file system, so nothing is copied where that has hard links.
    """
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)
