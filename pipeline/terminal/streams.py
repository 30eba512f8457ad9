"""Handle a closed stdout or stderr, as after `… | head`, without a traceback.

A stage, or a command that changes files, continues; what it prints is dropped. A command that only
prints ends with 141, the status that shells give to SIGPIPE.
"""

import atexit
import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

UNREAD = 128 + signal.SIGPIPE


class _Stream(io.FileIO):
    """A standard stream that turns into /dev/null, and calls `closed`, once its reader has gone."""

    def __init__(self, descriptor: int, closed: Callable[[], None]):
        super().__init__(descriptor, "w", closefd=False)
        self._closed = closed

    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            self._closed()
            return len(content)


def go_on_unread() -> None:
    """Let this process continue after the reader of its output has gone."""
    _replace(lambda: None)


def end_unread() -> None:
    """End this process with status 141 once the reader of its output has gone."""

    def end() -> None:
        raise SystemExit(UNREAD)

    def last() -> None:
        try:
            sys.stdout.flush()
        except SystemExit:
            os._exit(UNREAD)  # an exit handler can no longer set Python's exit status

    if _replace(end):
        atexit.register(last)


def _replace(closed: Callable[[], None]) -> bool:
    """Replace stdout and stderr; return False if a test that calls `main` has replaced them."""
    if sys.stdout is not sys.__stdout__ or sys.stdout is None or sys.stderr is None:
        return False
    for name in ("stdout", "stderr"):
        old = getattr(sys, name)
        settings = {"line_buffering": old.line_buffering, "write_through": old.write_through}
        raw = io.BufferedWriter(_Stream(old.fileno(), closed))
        old.flush()
        new = io.TextIOWrapper(raw, encoding=old.encoding, errors=old.errors, **settings)
        setattr(sys, name, new)
    return True
