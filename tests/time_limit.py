"""A time limit of every test, its fixtures included, that leaves no process behind; seconds come from pytest-timeout's settings.

Of pytest-timeout's own methods, `signal` waits for ever in a native call and leaves what the test's children started, and `thread`
ends all tests of the process. In their place, at the limit:
1. the test fails by an exception, and every process that was started since it began is killed;
2. GRACE seconds later, where the exception could not end it, this process writes the test's name, kills its children and exits.
   pytest-xdist names the test too, and goes on with the others in a new process;
3. another GRACE seconds later, where a native call keeps Python from running, C code writes the stack and exits.
tests/conftest.py takes over the hooks.
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
_TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds; the kernel's starting times are whole ticks since boot


class _Limit:
    """The running limit of one test."""

    def __init__(self, item: pytest.Item, seconds: float):
        self._name, self._seconds, self._began = item.nodeid, seconds, _since_boot()
        self._errors = item.config.stash[fault_handler_stderr_fd_key]  # not the one that pytest captures
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
        started = _children(self._began - 2 * _TICK)  # before the exception ends the first of them, and its children have no parent
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
        _kill(started)
        if not self._ended.wait(GRACE):
            text = f"\n{self._name} has run for more than {self._seconds:g} s and cannot be interrupted; this process exits\n"
            os.write(self._errors, text.encode())
            faulthandler.dump_traceback(self._errors)
            _kill(_children())
            os._exit(1)


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _children(since: float = 0.0) -> list[int]:
    """Return the ids of all processes below this one that were started at `since` or later, in seconds since boot."""
    parents, began = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            # The name before the last bracket may hold anything. Behind it: state, parent, and as the 20th the starting time.
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
    """Leave the limit: pytest-timeout calls this when a test fails too, and its fixtures have yet to end."""
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    try:
        return (yield)
    finally:
        while _running:
            _running.pop().end()
