"""Follow live.jsonl, to which `pretrain` and `sft` append figures while they train.

model/runtime/live_figures.py writes the files and describes a row. This module imports only the
standard library, so that it works in any environment.
"""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

NAME = "live.jsonl"
# Scratch folders are hidden siblings of an output. In a sealed stage's there is one more folder,
# named by the fingerprint of all that its work depends on.
_PATTERNS = (
    "checkpoints/*/.*.scratch",
    "checkpoints/*/.*.scratch/*",
    "sft/*/*/.*.scratch",
    "sft/*/*/.*.scratch/*",
)


def live_files(root: Path) -> list[Path]:
    """Return the live.jsonl of all runs below `root` that have not finished, sorted by path."""
    return sorted(path for pattern in _PATTERNS for path in root.glob(f"{pattern}/{NAME}"))


class Follower:
    """A reader of the rows that a run appends to one live.jsonl.

    `poll` returns each row once. After a kill, the run resumes from an earlier step and replaces
    the file by a new one. Then `poll` returns all rows of the new file, so steps repeat, and adds
    one to `restarts`. `ended` is True if the last poll found no file: the run has finished, or has
    not begun. If the file comes back, a later poll reads it from its start.
    """

    def __init__(self, path: Path):
        self.path = path
        self.restarts = 0
        self.ended = False
        self._file: BinaryIO | None = None
        self._part = b""
        self._begun = False

    def __enter__(self) -> "Follower":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def poll(self) -> list[dict[str, Any]]:
        """Return the rows that were written since the last call, without waiting.

        An incomplete last line waits for the next call. A damaged line is skipped: the run cuts it
        off when it resumes.
        """
        rows = self._read() if self._file else []
        while not self._is_current():
            self.close()
            try:
                self._file = open(self.path, "rb")  # noqa: SIM115
            except FileNotFoundError:
                self.ended = True
                return rows
            self.restarts += self._begun
            self._begun = True
            rows += self._read()
        self.ended = False
        return rows

    def close(self) -> None:
        """Close the file; a later poll reads it from its start."""
        if self._file:
            self._file.close()
        self._file, self._part = None, b""

    def _is_current(self) -> bool:
        """Return whether the path still leads to the open file, and the file has not shrunk."""
        if not self._file:
            return False
        own = os.fstat(self._file.fileno())
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            return False
        # The system does not reuse the inode of an open file.
        same = (own.st_dev, own.st_ino) == (named.st_dev, named.st_ino)
        return same and own.st_size >= self._file.tell()

    def _read(self) -> list[dict[str, Any]]:
        assert self._file
        *lines, self._part = (self._part + self._file.read()).split(b"\n")
        return [row for line in lines if (row := _row(line)) is not None]


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None
