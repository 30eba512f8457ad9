"""Estimate how long a run will still take, from recorded durations, progress bars and the graph.

    one instance    its bar's time left, or else its recorded seconds × how much slower today is
    the run         simulate the rest: `slots` side by side, the longest chain first
    shown           move gradually from the last estimate to the new one

An instance that has never run here counts with the mean of its stage's other instances.
"""

import heapq
import math
import statistics
from collections.abc import Collection, Mapping

from pipeline.driver.place import Progress

# Today's slowness is (prior + seconds today) / (prior + seconds recorded). The prior keeps a short
# stage that happens to be slow from changing it much.
PRIOR_SECONDS = 20.0
SMOOTHING_SECONDS = 10.0  # after this time a new estimate counts for two thirds
BEGUN = 0.05  # the part of a bar before which its rate is not used
# A bar that predicts less than this part of the recorded duration is one of several bars.
WHOLE = 0.4
MOST_UNKNOWN = 0.5  # no estimate if more than this part of the instances have never run
SECONDS = 1.0  # for this time an estimate only counts down


class Estimate:
    """The events of a run on which its remaining time depends. Times are a clock's seconds."""

    def __init__(
        self,
        names: Collection[str],
        recorded: Mapping[str, float],
        upstream: Mapping[str, Collection[str]],
        slots: int,
    ):
        self._waiting = dict.fromkeys(names)
        self._recorded = dict(recorded)
        self._upstream = upstream
        self._slots = max(1, slots)
        self._began: dict[str, float] = {}
        self._bars: Mapping[str, Progress] = {}
        self._took: dict[str, float] = {}
        self._learn()
        self._shown: tuple[float, float] | None = None  # the clock, and the seconds left then

    def start(self, name: str, now: float) -> None:
        self._waiting.pop(name, None)
        self._began[name] = now

    def progress(self, bars: Mapping[str, Progress]) -> None:
        self._bars = bars

    def drop(self, name: str) -> None:
        """Remove an instance that need not run, or has failed."""
        self._waiting.pop(name, None)
        self._began.pop(name, None)

    def finish(self, name: str, seconds: float) -> None:
        self.drop(name)
        self._took[name] = seconds
        self._learned = False

    def of_running(self, name: str, now: float) -> float | None:
        """Return the seconds that a running instance will still take; None if nothing is known."""
        elapsed, expected, bar = now - self._began[name], self._expected(name), self._bars.get(name)
        left = bar.seconds_left if bar and bar.done >= BEGUN * (bar.total or math.inf) else None
        if left is None:
            return None if expected is None else max(0.0, expected - elapsed)
        if expected is None or elapsed + left > WHOLE * expected:
            return left
        return max(left, expected - elapsed)

    def of_run(self, now: float) -> float | None:
        """Return the seconds until the run ends; None if too little is known.

        The returned value follows a new estimate gradually.
        """
        if self._shown and self._shown[1] and now - self._shown[0] < SECONDS:
            return max(0.0, self._shown[1] - (now - self._shown[0]))
        ahead = {name: self._expected(name) for name in self._waiting}
        running = {name: self.of_running(name, now) for name in self._began}
        known = [seconds for seconds in (*ahead.values(), *running.values()) if seconds is not None]
        count = len(ahead) + len(running)
        if len(known) < count * (1 - MOST_UNKNOWN):
            self._shown = None
            return None
        usual = statistics.fmean(known) if known else 0.0
        new = finishing_time(
            {name: usual if left is None else left for name, left in running.items()},
            {name: usual if left is None else left for name, left in ahead.items()},
            self._upstream,
            self._slots,
        )
        if self._shown and count:
            before, shown = self._shown
            passed = now - before
            share = 1 - math.exp(-passed / SMOOTHING_SECONDS)
            due = max(0.0, shown - passed)
            new = due + share * (new - due)
        self._shown = now, new
        return new

    def _expected(self, name: str) -> float | None:
        """Return the recorded seconds at today's speed, else the mean of the stage's others."""
        if not self._learned:
            self._learn()
        if name in self._recorded:
            return self._recorded[name] * self._slowness
        return self._usual.get(name.partition("@")[0])

    def _learn(self) -> None:
        """Compute how much slower instances are than recorded, and each stage's usual seconds."""
        both = self._took.keys() & self._recorded.keys()
        took = sum(self._took[name] for name in both)
        before = sum(self._recorded[name] for name in both)
        self._slowness = (PRIOR_SECONDS + took) / (PRIOR_SECONDS + before)
        expected = {name: took * self._slowness for name, took in self._recorded.items()}
        by_stage: dict[str, list[float]] = {}
        for name, seconds in (expected | self._took).items():
            by_stage.setdefault(name.partition("@")[0], []).append(seconds)
        self._usual = {stage: statistics.fmean(seconds) for stage, seconds in by_stage.items()}
        self._learned = True


def finishing_time(
    running: Mapping[str, float],
    waiting: Mapping[str, float],
    upstream: Mapping[str, Collection[str]],
    slots: int,
) -> float:
    """Return the seconds until the last instance ends if the longest chain goes first.

    `running` and `waiting` map names to seconds. `upstream` maps a name to those that it depends
    on; those that neither run nor wait are done.
    """
    downstream: dict[str, list[str]] = {name: [] for name in (*running, *waiting)}
    missing = dict.fromkeys(waiting, 0)
    for name in waiting:
        for other in upstream.get(name, ()):
            if other in downstream:
                downstream[other].append(name)
                missing[name] += 1
    chain = _chains(waiting, downstream)
    ready = [(-chain[name], name) for name, count in missing.items() if not count]
    heapq.heapify(ready)
    ends = [(seconds, name) for name, seconds in running.items()]
    heapq.heapify(ends)
    now = 0.0
    while ready or ends:
        while ready and len(ends) < slots:
            name = heapq.heappop(ready)[1]
            heapq.heappush(ends, (now + waiting[name], name))
        now, ended = heapq.heappop(ends)
        for name in downstream[ended]:
            missing[name] -= 1
            if not missing[name]:
                heapq.heappush(ready, (-chain[name], name))
    return now


def _chains(waiting: Mapping[str, float], downstream: Mapping[str, list[str]]) -> dict[str, float]:
    """Return, for each waiting instance, the seconds of the longest chain that begins with it.

    Depth first with an explicit stack: a long graph would exceed Python's limit on recursion.
    """
    chains: dict[str, float] = {}
    for first in waiting:
        path = [first]
        while path:
            name = path[-1]
            if after := [other for other in downstream[name] if other not in chains]:
                path.extend(after)
                continue
            path.pop()
            longest = max((chains[other] for other in downstream[name]), default=0.0)
            chains[name] = waiting[name] + longest
    return chains
