"""How long a run will still take, from recorded durations, progress bars and the graph."""

import heapq
import math
import statistics
from collections.abc import Collection, Mapping

from pipeline.driver.place import Progress

# The recorded durations of so many seconds count beside those of this run, when the machine's
# speed is estimated: a short stage that happens to be slow changes little.
PRIOR_SECONDS = 20.0
SMOOTHING_SECONDS = 10.0  # a new estimate counts for two thirds after so long
BEGUN = 0.05  # of a bar; before that, its rate says little
# A bar that foresees less than this part of the recorded duration is one of several.
WHOLE = 0.4
MOST_UNKNOWN = 0.5  # of the instances; with more that never ran, there is no estimate
SECONDS = 1.0  # for which an estimate only counts down


class Estimate:
    """What a run has done and will do. Times are a clock's seconds."""

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
        self._shown: tuple[float, float] | None = None  # the clock, and what was left then

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
        """Return the seconds that everything will still take; None if too little is known.

        It follows a changed estimate gradually.
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
        """Return the recorded duration, or those of the same stage's others, at today's speed."""
        if not self._learned:
            self._learn()
        if name in self._recorded:
            return self._recorded[name] * self._slowness
        return self._usual.get(name.partition("@")[0])

    def _learn(self) -> None:
        """Compute how much longer instances take than recorded, and each stage's usual seconds."""
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
    """Return when the last instance ends if the longest chain goes first.

    `running` and `waiting` map names to seconds, `upstream` a name to those it depends on; what is
    in neither has been done.
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
    """Return for each waiting instance the seconds of the longest chain that begins with it."""
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
