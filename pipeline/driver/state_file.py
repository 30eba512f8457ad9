"""Write a run's state to a file that other processes read: `make watch` shows it.

The driver writes the file at most once a second, by a rename, and removes it when the run ends. The
file has the driver's process id and start time, so that a reader ignores that of a killed driver.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from pipeline.driver.estimate import Estimate
from pipeline.driver.place import Job, Progress
from pipeline.driver.view import View

STATE = Path(".dvc/tmp/driver/state.json")
EVERY = 1.0  # seconds, from one writing to the next


class RunningInstance(NamedTuple):
    """An instance that runs now: the seconds since its start, and its progress bar if it has one.

    `seconds_left` is estimated from its bar, or else from its last run.
    """

    name: str
    seconds: float
    bar: Progress | None
    seconds_left: float | None


class DriverState(NamedTuple):
    """A run of the driver: counts of instances, those that run now, and seconds."""

    total: int
    ended: int
    failed: int
    stopping: bool
    seconds: float
    seconds_left: float | None
    running: tuple[RunningInstance, ...]


class StateFileView(View):
    """Pass each event on to `view`, and keep the run's state in the file `path`."""

    def __init__(self, view: View, path: Path, clock: Callable[[], float] = time.monotonic):
        super().__init__(clock=clock)
        self._view, self._path = view, path
        self._estimate = Estimate((), {}, {}, 1)
        self._bars: Mapping[str, Progress] = {}
        self._total = self._ended_count = self._failed_count = 0
        self._written: float | None = None

    def planned(
        self,
        names: Collection[str],
        seconds: Mapping[str, float],
        upstream: Mapping[str, Collection[str]] | None = None,
        slots: int = 1,
    ) -> None:
        self._total = len(names)
        self._estimate = Estimate(names, seconds, upstream or {}, slots)
        self._view.planned(names, seconds, upstream, slots)

    def started(self, job: Job) -> None:
        self._running[job.name] = now = self._clock()
        self._estimate.start(job.name, now)
        self._view.started(job)

    def progressed(self, bars: Mapping[str, Progress]) -> None:
        self._bars = bars
        self._estimate.progress(bars)
        self._write_state()
        self._view.progressed(bars)

    def unchanged(self, name: str) -> None:
        self._leave(name)
        self._view.unchanged(name)

    def restored(self, name: str) -> None:
        self._leave(name)
        self._view.restored(name)

    def finished(self, name: str, seconds: float, log: str) -> None:
        self._ended(name)
        self._ended_count += 1
        self._estimate.finish(name, seconds)
        self._view.finished(name, seconds, log)

    def failed(self, name: str, status: int, log: str) -> None:
        self._ended(name)
        self._failed_count += 1
        self._estimate.drop(name)
        self._view.failed(name, status, log)

    def stopping(self, number: int) -> None:
        self._stopping = self._stopping or signal.Signals(number)
        self._view.stopping(number)

    def closed(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
        self._view.closed()

    def _leave(self, name: str) -> None:
        self._ended_count += 1
        self._estimate.drop(name)

    def _write_state(self) -> None:
        now = self._clock()
        if self._written is not None and now - self._written < EVERY:
            return
        self._written = now
        running = [
            RunningInstance(
                name, now - began, self._bars.get(name), self._estimate.of_running(name, now)
            )
            for name, began in self._running.items()
        ]
        state = DriverState(
            self._total,
            self._ended_count,
            self._failed_count,
            self._stopping is not None,
            now - self._opened,
            self._estimate.of_run(now),
            tuple(running),
        )
        # Not atomic_file, which waits for the disk: after a crash nobody needs this state.
        partial = self._path.with_name(f".{self._path.name}.partial")
        with suppress(OSError):  # a full disk must not end the run
            partial.write_text(json.dumps({**_this_process(), "state": state}), encoding="utf-8")
            os.replace(partial, self._path)


def read_state(root: Path) -> DriverState | None:
    """Return the state of the driver that runs in `root`; None if none runs."""
    try:
        content = json.loads((root / STATE).read_bytes())
        if psutil.Process(content["process"]).create_time() != content["began"]:
            return None  # another process has the id of a killed driver
        state = DriverState(*content["state"])
        return state._replace(running=tuple(_instance(each) for each in state.running))
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def _this_process() -> dict[str, float]:
    own = psutil.Process()
    return {"process": own.pid, "began": own.create_time()}


def _instance(values: Any) -> RunningInstance:
    name, seconds, bar, left = values
    return RunningInstance(name, seconds, None if bar is None else Progress(*bar), left)
