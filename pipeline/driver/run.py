"""Bring instances up to date: skip, restore, or run and record each, as `dvc repro` would.

    schedule.take ─→ DVC prepares ─→ unchanged or restored ──────────────────→ schedule.done
                          └────────→ ready: the place runs it ─→ DVC records ─→ schedule.done

Two threads. The main one starts instances, reads what they print and shows it. The other one calls
DVC, one call at a time. So while DVC hashes the outputs of one instance, others start and their
bars move.
"""

import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from dvc.exceptions import DvcException

from pipeline.driver.place import Job, Outcome, Place
from pipeline.driver.record import Found, Instances, Recorder
from pipeline.driver.schedule import Schedule, Share
from pipeline.driver.view import View

_WAIT = 0.2  # seconds to wait for an instance to end, in each turn of the loop
_WAIT_FOR_DVC = 0.005  # the same while DVC works on an instance, to react to its answer at once


class Run:
    """One run. `stopping` is the signal that has asked it to end, if one has."""

    def __init__(
        self,
        instances: Instances,
        schedule: Schedule,
        recorder: Recorder,
        place: Place,
        view: View,
    ):
        self._instances, self._schedule, self._recorder = instances, schedule, recorder
        self._place, self._view = place, view
        self._dvc = ThreadPoolExecutor(1)
        self._asked: dict[Future[Any], tuple[str, Callable[[Any], None]]] = {}
        self._running: dict[str, float] = {}  # when each began
        self.failed: list[str] = []
        self.stopping: int | None = None

    def to_the_end(self) -> None:
        """Run until all is done; after a failure or a signal, until the running ones have ended."""
        with self._dvc:
            while self._asked or self._running or not (self._ending or self._schedule.finished):
                if self.stopping is not None:
                    self._place.stop(self.stopping)
                # The workers of a cluster come and go.
                self._schedule.resize(self._place.machine)
                # An instance takes its slot before DVC prepares it. If it turns out to be unchanged
                # or restored, `_prepared` gives the slot back at once.
                while not self._ending and (taken := self._schedule.take()) is not None:
                    name, share = taken
                    self._ask(name, self._recorder.prepare, partial(self._prepared, name, share))
                for outcome in self._place.finished(_WAIT_FOR_DVC if self._asked else _WAIT):
                    self._ended(outcome)
                for future in [future for future in self._asked if future.done()]:
                    self._answered(future)
                self._view.progressed(self._place.progress())

    @property
    def _ending(self) -> bool:
        return bool(self.failed) or self.stopping is not None

    def _ask(self, name: str, call: Callable[[str], Any], then: Callable[[Any], None]) -> None:
        """Make DVC's thread call `call(name)`; `then` gets the result, in the main thread."""
        self._asked[self._dvc.submit(call, name)] = name, then

    def _answered(self, future: Future[Any]) -> None:
        name, then = self._asked.pop(future)
        try:
            answer = future.result()
        except (DvcException, OSError) as error:
            self._fail(name, 1, f"error: {name}: {' '.join(str(error).split())}\n")
        else:
            then(answer)

    def _prepared(self, name: str, share: Share, found: Found) -> None:
        if found is Found.READY and not self._ending:
            job = Job(
                name,
                tuple(self._instances.commands[name]),
                share.threads,
                share.devices,
                self._instances.folders[name],
            )
            self._running[name] = time.monotonic()
            self._view.started(job)
            self._place.start(job)
        elif found is Found.READY:
            self._ask(name, self._recorder.failed, lambda _: None)
        else:
            (self._view.unchanged if found is Found.UNCHANGED else self._view.restored)(name)
            self._schedule.done(name)

    def _ended(self, outcome: Outcome) -> None:
        name, seconds = outcome.name, time.monotonic() - self._running.pop(outcome.name)

        def then(_: None) -> None:
            self._view.finished(name, seconds, outcome.log)
            self._schedule.done(name)

        if outcome.status:
            self._fail(name, outcome.status, outcome.log)
        elif outcome.entry is not None:
            self._ask(name, partial(self._recorder.record_entry, entry=outcome.entry), then)
        else:
            self._ask(name, self._recorder.record, then)

    def _fail(self, name: str, status: int, log: str) -> None:
        """Note a failure, unless a signal to the driver has ended the instance."""
        self._schedule.give_back(name)
        self._ask(name, self._recorder.failed, lambda _: None)
        if self.stopping is None:
            self.failed.append(name)
            self._view.failed(name, status, log)

    def ask_to_stop(self, number: int) -> None:
        """Send this signal to all running instances; after a second one, send SIGKILL."""
        self.stopping = number if self.stopping is None else signal.SIGKILL
        self._view.stopping(number)
