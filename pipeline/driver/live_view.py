"""The live table of a run in a terminal.

    done     NAME   4.1 s  result         one line for each ended instance; they scroll away
    restored NAME

    NAME  ━━━━╸     1440/3200 step  …     one line for each running instance, redrawn in place
    12 of 36 instances done, 0:40, …      one line about the whole run

No thread is started: `progressed` draws the table, at most four times a second.
"""

import sys
import time
from collections.abc import Callable, Collection, Mapping

from rich.console import Console, ConsoleOptions, RenderResult
from rich.control import Control
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import ControlType
from rich.table import Table
from rich.text import Text

from pipeline.driver.estimate import Estimate
from pipeline.driver.place import Job, Progress
from pipeline.driver.view import View, counted, spent, summary, what_it_does

REFRESH = 0.25  # seconds
NARROW = 72  # columns from which a bar and its figures have room
ROOMY = 100  # columns from which counts have room, in place of per cent
WIDEST = 132
STYLES = {"done": "green", "restored": "cyan", "failed": "bold red", "stopped": "yellow"}


class LiveView(View):
    """The live table, in the colours of the terminal's palette, or in none under NO_COLOR."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic):
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        super().__init__(self._console.file, clock=clock)
        self._bars: Mapping[str, Progress] = {}
        self._estimate = Estimate((), {}, {}, 1)
        self._longest_name = self._total = self._ended_count = 0
        self._drawn = -REFRESH
        self._width = self._console.width
        self._lines: list[int] = []  # the width of each line that is drawn
        self._live = Live(
            console=self._console,
            get_renderable=lambda: self,
            auto_refresh=False,
            transient=True,
            # Other text that this process prints must scroll away above the table.
            redirect_stdout=console is None,
            redirect_stderr=console is None and sys.stderr.isatty(),
        )

    def planned(
        self,
        names: Collection[str],
        seconds: Mapping[str, float],
        upstream: Mapping[str, Collection[str]] | None = None,
        slots: int = 1,
    ) -> None:
        self._estimate = Estimate(names, seconds, upstream or {}, slots)
        self._total = len(names)
        self._longest_name = max(map(len, names), default=0)

    def started(self, job: Job) -> None:
        now = self._clock()
        self._running[job.name] = now
        self._estimate.start(job.name, now)
        if not self._live.is_started:
            # Live hides the cursor; show it again, because a killed driver could not.
            self._show(self._live.start, self._console.show_cursor)

    def progressed(self, bars: Mapping[str, Progress]) -> None:
        self._show_signals()
        self._bars = bars
        self._estimate.progress(bars)
        if self._clock() - self._drawn >= REFRESH:
            self._show(self._undo_wrapping, self._live.refresh)

    def unchanged(self, name: str) -> None:
        super().unchanged(name)
        self._leave(name)

    def restored(self, name: str) -> None:
        self._counts["restored"] += 1
        self._leave(name)
        self._event("restored", name)

    def finished(self, name: str, seconds: float, log: str) -> None:
        self._ended(name)
        self._counts["run"] += 1
        self._ended_count += 1
        self._estimate.finish(name, seconds)
        self._event("done", name, spent(seconds), summary(name, log))

    def failed(self, name: str, status: int, log: str) -> None:
        super().failed(name, status, log)
        self._estimate.drop(name)

    def closed(self) -> None:
        self._show(self._live.stop)
        super().closed()

    def _leave(self, name: str) -> None:
        self._ended_count += 1
        self._estimate.drop(name)

    def _line(self, event: str, text: str) -> None:
        self._event(event, text)

    def _event(self, event: str, name: str, took: str = "", result: str = "") -> None:
        """Print a line above the table, cut at the terminal's width."""
        line = Text(f"{event:<8} ", style=STYLES.get(event, "bold"), end="")
        plain = "default not bold"
        if took and self._console.width >= NARROW:
            width = self._name_width(self._console.width)
            name, took = f"{cut(name, width):<{width}}", f"{took:>11}"
        line.append(f"{name}  {took}", style=plain)
        line.append(f"  {result}", style=f"{plain} dim")
        line.rstrip()
        self._show(
            self._undo_wrapping,
            lambda: self._console.print(line, no_wrap=True, overflow="ellipsis"),
        )

    def _name_width(self, width: int) -> int:
        return min(self._longest_name, width - 30 if width < NARROW else width * 2 // 5)

    def _undo_wrapping(self) -> None:
        """After the terminal became narrower, erase the extra lines that wrapping has made.

        Live erases only as many lines as it drew. Say it drew a line of 90 columns. A terminal of
        40 columns shows three lines, so two are extra.
        """
        before, self._width = self._width, self._console.width
        if not self._live.is_started or self._width >= before:
            return
        extra = sum((max(1, width) - 1) // self._width for width in self._lines)
        up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2))
        self._console.control(Control((ControlType.ERASE_IN_LINE, 2), *up * extra))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the table as it is now."""
        now, width = self._clock(), min(options.max_width, WIDEST)
        self._drawn = now
        room = max(1, options.size.height - 3)
        names = list(self._running)
        if len(names) > room:
            names = names[: room - 1]
        rest = [Text(f"and {hidden} more")] if (hidden := len(self._running) - len(names)) else []
        rest.append(self._footer(now))
        self._lines = [0, *[width] * len(names), *(min(width, text.cell_len) for text in rest)]
        yield Text()
        yield self._table(names, now, width)
        yield from rest

    def _table(self, names: list[str], now: float, width: int) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.width = width
        name_width, bar_width = self._name_width(width), width // 10
        table.add_column(no_wrap=True, width=name_width)
        if width >= NARROW:
            table.add_column(width=bar_width)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(no_wrap=True, justify="right", min_width=6)
        for name in names:
            bar, left = self._bars.get(name), self._left(name, now)
            cells: list[Text | ProgressBar] = [Text(cut(name, name_width))]
            if width >= NARROW:
                cells.append(_drawn(bar, bar_width))
            table.add_row(
                *cells,
                Text(_share(bar, width)),
                Text(what_it_does(name, bar) if bar and width >= NARROW else "", style="dim"),
                Text(clock(now - self._running[name])),
                Text(f"-{clock(left)}" if left and left >= 0.5 else "", style="cyan"),
            )
        return table

    def _left(self, name: str, now: float) -> float | None:
        """Return the seconds left by the instance's bar, or else by recorded durations."""
        bar = self._bars.get(name)
        if bar and bar.seconds_left is not None:
            return bar.seconds_left
        return self._estimate.of_running(name, now)

    def _footer(self, now: float) -> Text:
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{self._ended_count} of {counted(self._total)} done", style="bold")
        if self._failures:
            line.append(f", {len(self._failures)} failed", style="bold red")
        line.append(f", {clock(now - self._opened)}")
        left = self._estimate.of_run(now)
        if self._stopping:
            line.append(f", stopping ({self._stopping.name})", style="yellow")
        elif self._failures:
            line.append(", ends when what runs has ended", style="yellow")
        elif left is not None:
            line.append(f", about {spent(max(1.0, left), whole=True)} left", style="cyan")
        return line


def clock(seconds: float) -> str:
    """Return seconds as `0:40` or `1:02:03`."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def cut(name: str, width: int) -> str:
    """Return a name with an ellipsis in place of its middle if it is longer than `width`."""
    if len(name) <= width:
        return name
    begin = (width - 1) // 2
    return f"{name[:begin]}…{name[len(name) - (width - 1 - begin) :]}"


def _drawn(bar: Progress | None, width: int) -> Text | ProgressBar:
    if bar is None or not bar.total:
        return Text()
    return ProgressBar(
        total=bar.total,
        completed=min(bar.done, bar.total),
        width=width,
        style="dim",
        complete_style="cyan",
        finished_style="green",
    )


def _share(bar: Progress | None, width: int) -> str:
    if bar is None:
        return ""
    if bar.total is None:
        return f"{bar.done} {bar.unit}".strip()
    if width < ROOMY:
        return f"{100 * bar.done // max(1, bar.total)} %"
    return f"{bar.done}/{bar.total} {bar.unit}".strip()
