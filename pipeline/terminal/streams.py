"""What becomes of a process whose stdout or stderr nobody reads any longer, as after `… | head`.

A stage goes on: its outputs are right whether or not anybody reads its last line. So does a command
that changes something. A command that only tells something ends at once, as programs in a pipeline
do, with the status that shells give to SIGPIPE. None has a traceback.
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
    """A standard stream; when its reader has closed it, it goes nowhere and calls `closed`."""

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
    """Have this process go on when nobody reads what it says."""
    _replace(lambda: None)


def end_unread() -> None:
    """Have this process end with status 141 when nobody reads what it says."""

    def end() -> None:
        raise SystemExit(UNREAD)

    def last() -> None:
        try:
            sys.stdout.flush()
        except SystemExit:
            os._exit(UNREAD)  # it is too late for Python to take a status

    if _replace(end):
        atexit.register(last)


def _replace(closed: Callable[[], None]) -> bool:
    """Return whether they are this process's own, and not a test's that calls `main`."""
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
