"""End a test that exceeds its time limit, and every process that it started.

The limit includes the test's fixtures. pytest-timeout has the seconds (pyproject.toml, and markers
of tests/conftest.py), but its own methods do not suffice. `signal` cannot end a native call, and
leaves the children of a test's children running. `thread` ends every test of the process. Instead,
at the limit:

1. An exception fails the test, and the processes that were started since the test began are killed.
2. If the test still runs GRACE seconds later, this process prints the test's name, kills all its
   children and exits. pytest-xdist reports the test and runs the others in a new process.
3. If a native call holds Python's lock, step 2 cannot run. Another GRACE seconds later, C code of
   faulthandler prints the stack and exits.
"""

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.faulthandler import fault_handler_stderr_fd_key
from pytest_timeout import is_debugging

GRACE = float(os.environ.get("TEST_TIME_LIMIT_GRACE", 20))  # seconds
_TICK = 1 / os.sysconf(
    "SC_CLK_TCK"
)  # seconds; the kernel counts start times in whole ticks since boot


class _Limit:
    """The time limit of the test that runs."""

    def __init__(self, item: pytest.Item, seconds: float):
        self._name, self._seconds, self._began = item.nodeid, seconds, _since_boot()
        self._errors = item.config.stash[
            fault_handler_stderr_fd_key
        ]  # not the one that pytest captures
        self._ended = threading.Event()
        faulthandler.dump_traceback_later(seconds + 2 * GRACE, exit=True, file=self._errors)
        signal.signal(signal.SIGALRM, self._fail)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        threading.Thread(target=self._watch, name=f"limit of {self._name}", daemon=True).start()

    def end(self) -> None:
        self._ended.set()
        faulthandler.cancel_dump_traceback_later()

    def _fail(self, *_: object) -> None:
        __tracebackhide__ = True
        if not self._ended.is_set():
            pytest.fail(f"{self._name} has run for more than {self._seconds:g} s")

    def _watch(self) -> None:
        if self._ended.wait(self._seconds):
            return
        if is_debugging():
            faulthandler.cancel_dump_traceback_later()
            return
        # List them before the exception ends the test's own children: then their children get
        # another parent.
        started = _children(self._began - 2 * _TICK)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
        _kill(started)
        if not self._ended.wait(GRACE):
            text = (
                f"\n{self._name} has run for more than {self._seconds:g} s and cannot be"
                " interrupted; this process exits\n"
            )
            os.write(self._errors, text.encode())
            faulthandler.dump_traceback(self._errors)
            _kill(_children())
            os._exit(1)


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _children(since: float = 0.0) -> list[int]:
    """Return the ids of all processes below this one that started at `since` or later.

    Times are seconds since boot.
    """
    parents, began = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended
            # The process's name, before the last bracket, may hold any character. After it come the
            # state, the parent, and as the 20th field the start time.
            fields = path.read_text().rpartition(")")[2].split()
            number = int(path.parent.name)
            parents[number], began[number] = int(fields[1]), int(fields[19]) * _TICK

    def is_below(number: int) -> bool:
        while number in parents and parents[number] != os.getpid():
            number = parents[number]
        return number in parents

    return [number for number in parents if is_below(number) and began[number] >= since]


def _kill(processes: list[int]) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


_running: list[_Limit] = []


def pytest_timeout_set_timer(item: pytest.Item, settings) -> bool:
    _running.append(_Limit(item, settings.timeout))
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """Keep the limit running: pytest-timeout calls this before a failed test's fixtures end."""
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        while _running:
            _running.pop().end()
