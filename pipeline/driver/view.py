"""Show a run to a person: a live table in a terminal, lines in a file or pipe."""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import IO, NamedTuple

from pipeline.driver.place import Job, Progress

EVERY = 60.0  # seconds between two lines about a running instance
NEWS = 1 / 6  # the part of EVERY after which it gets a line if its figures have changed


class Failure(NamedTuple):
    """An instance that failed, and what it printed."""

    name: str
    status: int
    log: str


class View:
    """Print a line when an instance starts and when it ends, and each minute in between.

    If the figures in an instance's bar have changed, such as the loss of a network that trains, the
    line comes after ten seconds.

    The driver calls a method for each event, `progressed` several times a second, and `closed` at
    the end, also after an exception. One thread calls all methods, except `stopping`, which a
    signal's handler calls.
    """

    def __init__(
        self,
        out: IO[str] | None = None,
        every: float = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._out = out or sys.stdout
        self._every, self._clock = every, clock
        self._opened = clock()
        self._running: dict[str, float] = {}  # when each began
        self._shown: dict[str, float] = {}  # when each had its last line
        self._said: dict[str, str] = {}  # the figures in each one's last line
        self._counts = {"run": 0, "restored": 0, "unchanged": 0}
        self._failures: list[Failure] = []
        self._signals: list[signal.Signals] = []  # signals without a line so far
        self._stopping: signal.Signals | None = None
        self._closed = self._gone = False

    def planned(
        self,
        names: Collection[str],
        seconds: Mapping[str, float],
        upstream: Mapping[str, Collection[str]] | None = None,
        slots: int = 1,
    ) -> None:
        """Note the instances that may run, in order, with recorded seconds and dependencies.

        `slots` instances run side by side.
        """

    def started(self, job: Job) -> None:
        """Note an instance that runs from now on."""
        self._running[job.name] = self._shown[job.name] = self._clock()
        gpus = f" on GPU {','.join(job.devices)}" if job.devices else ""
        self._line("start", job.name + gpus)

    def progressed(self, bars: Mapping[str, Progress]) -> None:
        """Note the bars of running instances; print a line for each that is due."""
        self._show_signals()
        now = self._clock()
        for name, began in self._running.items():
            said = bars[name].said if name in bars else ""
            is_news = said != self._said.get(name, "")
            if now - self._shown[name] >= self._every * (NEWS if is_news else 1):
                self._shown[name], self._said[name] = now, said
                bar = f": {in_words(bars[name])}" if name in bars else ""
                self._line("running", f"{name}, {spent(now - began)}{bar}")

    def unchanged(self, name: str) -> None:
        """Count an instance that need not run, since its inputs have not changed."""
        self._counts["unchanged"] += 1

    def restored(self, name: str) -> None:
        """Note an instance whose outputs came from the run cache."""
        self._counts["restored"] += 1
        self._line("restored", name)

    def finished(self, name: str, seconds: float, log: str) -> None:
        """Note an instance that succeeded and is recorded; its process took `seconds`."""
        self._ended(name)
        self._counts["run"] += 1
        result = summary(name, log)
        self._line("done", f"{name}, {spent(seconds)}" + (f": {result}" if result else ""))

    def failed(self, name: str, status: int, log: str) -> None:
        """Note an instance that failed; `closed` prints its output."""
        began = self._ended(name)
        after = "" if began is None else f" after {spent(self._clock() - began)}"
        self._failures.append(Failure(name, status, log))
        self._line("failed", f"{name}{after}: {in_words_of_status(status)}")

    def stopping(self, number: int) -> None:
        """Note a signal that stops the run; the next `progressed` prints a line about it."""
        self._stopping = self._stopping or signal.Signals(number)
        self._signals.append(signal.Signals(number))

    def closed(self) -> None:
        """Print, once, the totals, the output of failed instances, and what to do."""
        if self._closed:
            return
        self._closed = True
        self._show_signals()
        now = self._clock()
        for name, began in self._running.items():
            self._line("stopped", f"{name} after {spent(now - began)}")
        self._write(in_words_of_all(self._counts, now - self._opened) + "\n")
        for failure in self._failures:
            self._write(f"\n{failure.name} printed:\n{failure.log or '(nothing)'}")
            self._write("" if failure.log.endswith("\n") else "\n")
        if advice := what_to_do(self._failures, self._stopping):
            self._show(lambda: print(advice, file=sys.stderr, flush=True))

    def _ended(self, name: str) -> float | None:
        """Remove an instance from the running ones; return when it began, if it had."""
        self._shown.pop(name, None)
        self._said.pop(name, None)
        return self._running.pop(name, None)

    def _show_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            what = counted(len(self._running)) if self._running else "the run"
            again = "" if number == signal.SIGKILL else "; a second signal kills what still runs"
            self._line(number.name, f"stops {what}{again}")

    def _line(self, event: str, text: str) -> None:
        self._write(f"{event:<8} {text}\n")

    def _write(self, text: str) -> None:
        self._show(lambda: self._out.write(text), self._out.flush)

    def _show(self, *actions: Callable[[], object]) -> None:
        """Print; after the terminal has gone, print nothing, so that the run can still end well."""
        if self._gone:
            return
        try:
            for action in actions:
                action()
        except OSError:
            self._gone = True


def make_view(every: float = EVERY) -> View:
    """Return the live table if stdout is a terminal that can move its cursor, else lines."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")  # a stage may print what the locale cannot encode
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") in ("", "dumb", "unknown"):
        return View(every=every)
    from pipeline.driver.live_view import LiveView

    return LiveView()


def summary(name: str, log: str) -> str:
    """Return a log's last line without the stage's name in front.

    For half@a-500, `half a/step_500: logits differ by …` becomes `logits differ by …`.
    """
    last = next((line for line in reversed(log.splitlines()) if line.strip()), "").strip()
    return re.sub(rf"{re.escape(name.partition('@')[0])}(?: [^:]*)?: ", "", last, count=1)


def what_it_does(name: str, bar: Progress) -> str:
    """Return a bar's label and figures, without those words of the label that are in `name`."""
    in_name = set(re.findall(r"[^\W_]+", name))
    shown = []
    for word in bar.label.split():
        parts = re.findall(r"[^\W_]+", word)
        if 2 * sum(part in in_name for part in parts) <= len(parts):
            shown.append(word)
    return ", ".join(filter(None, [" ".join(shown), bar.said]))


def in_words(bar: Progress) -> str:
    """Return a bar as words: `1440 of 3200 step, loss 4.123, 50 s left`."""
    count = f"{bar.done}" if bar.total is None else f"{bar.done} of {bar.total}"
    left = "" if bar.seconds_left is None else f"{spent(bar.seconds_left, whole=True)} left"
    label = f"{bar.label}: " if bar.label else ""
    return label + ", ".join(filter(None, [f"{count} {bar.unit}".strip(), bar.said, left]))


def spent(seconds: float, whole: bool = False) -> str:
    """Return seconds as `4.1 s`, `2 min 40 s` or `1 h 03 min`."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s" if whole else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def counted(number: int) -> str:
    return f"{number} instance{'' if number == 1 else 's'}"


def in_words_of_all(counts: Mapping[str, int], seconds: float) -> str:
    """Return the totals of a run: `12 instances run, 3 restored, 21 unchanged; 4 min 03 s`."""
    run, *others = counts.items()
    shown = [f"{counted(run[1])} {run[0]}", *(f"{count} {word}" for word, count in others if count)]
    return f"{', '.join(shown)}; {spent(seconds)}"


def in_words_of_status(status: int) -> str:
    """Return the way a process ended: its exit status, or the signal that killed it."""
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
    often = ", as Linux does when memory runs out" if -status == signal.SIGKILL else ""
    return f"killed by {name}{often}"


def what_to_do(failures: Collection[Failure], stopping: signal.Signals | None) -> str:
    """Return the line for stderr if the run ended early: why, and what to do; else nothing."""
    if failures:
        names = ", ".join(f"{each.name} ({in_words_of_status(each.status)})" for each in failures)
        why, then = f"{names} failed, see the output above", "Mend it and run this again"
    elif stopping:
        why, then = f"{stopping.name} stopped the run", "Run this again to go on"
    else:
        return ""
    return f"error: driver: {why}; all that is done is recorded. {then}"
