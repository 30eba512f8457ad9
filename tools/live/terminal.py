"""Draw in a terminal what runs: a block for each training run, a line for every other instance."""

import sys
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipeline.driver.live_view import NARROW, ROOMY, STYLES, clock, cut
from pipeline.driver.place import Progress
from pipeline.driver.state_file import DriverState, RunningInstance
from pipeline.driver.view import counted, spent, what_it_does
from tools.live.runs import Compared, Curve, Run, Watch

NOTHING = "Nothing runs here"
_BLOCKS = "▁▂▃▄▅▆▇█"
# Columns of a block's table; with the space between them they fit into 60.
_LABEL, _FIGURE = 18, (8, 9, 11, 12)
_TABLE = _LABEL + sum(_FIGURE)
_WIDEST = 112
_LEAST_CURVE = 14  # columns that a curve beside the table needs
# The part of training that a curve leaves out. A fresh network's loss is so high that the rest
# would look flat.
BEGINNING = 0.1


class Screen:
    """All that runs, as one renderable as wide as the terminal.

    `waits`: whether more may begin to run. `fits`: whether to keep to the terminal's height.
    """

    def __init__(self, watch: Watch, waits: bool = True, fits: bool = False):
        self._watch, self._waits, self._fits = watch, waits, fits

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, _WIDEST)
        runs, others = self._watch.running, self._watch.others
        yield from _stopped(self._watch.stopped)
        if not (runs or others or self._watch.driver):
            yield Text(f"{NOTHING}; waiting, Ctrl-C ends." if self._waits else f"{NOTHING}.")
            return
        rows = [_instance(each, width) for each in others]
        end = [footer(self._watch.driver)] if self._watch.driver else []
        height = options.size.height if self._fits else sys.maxsize
        room = height - len(rows) - len(end) - len(self._watch.stopped) - 1
        blocks = [_block(run, width) for run in runs]
        full = [len(console.render_lines(block, options)) for block in blocks]
        for number, run in enumerate(runs):
            # Leave room for at least one line for each later run.
            later = len(runs) - number - 1
            if full[number] + later <= room:
                yield blocks[number]
                room -= full[number]
            elif later < room:
                yield _line(run, width)
                room -= 1
            else:
                yield Text(f"and {later + 1} more")
                break
        yield from rows
        yield from end


def ended_line(run: Run) -> Text:
    """Return the line about a run that has ended."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{'ended':<8} ", style=STYLES["done"])
    line.append(f"{run.name}  step {run.step:,} of {run.steps:,}")
    for figure in run.compared():
        line.append(f", {figure.label} {_value(figure)}", style="dim")
    return line


def sparkline(curve: Curve, steps: int, width: int, height: int = 1) -> list[str]:
    """Return a curve as `height` lines of block characters; `width` columns stand for `steps`.

    A column is the mean of its steps. The first tenth of the curve is left out.
    """
    first = BEGINNING * max(curve, default=0)
    columns: dict[int, list[float]] = {}
    for step, value in curve.items():
        if step >= first:
            columns.setdefault(min(width - 1, step * width // max(1, steps)), []).append(value)
    means = {column: sum(values) / len(values) for column, values in columns.items()}
    if not means:
        return [" " * width] * height
    low, high = min(means.values()), max(means.values())
    most = 8 * height - 1
    filled, last = [], 0  # height of each column, in eighths of a line
    for column in range(width):
        if column in means:
            share = (means[column] - low) / (high - low) if high > low else 0.5
            last = 1 + round(share * most)
        filled.append(last if column <= max(means) else 0)
    return [
        "".join(_cell(eighths - 8 * row) for eighths in filled) for row in reversed(range(height))
    ]


def _cell(eighths: int) -> str:
    return " " if eighths <= 0 else _BLOCKS[min(8, eighths) - 1]


def _block(run: Run, width: int) -> RenderableType:
    """Return a run's head line, its figures beside the committed ones, its curve and its rates."""
    figures = run.compared()
    lines: list[RenderableType] = [_head(run, width)]
    table = [_heading(), *(_row(figure) for figure in figures)]
    beside = width - _TABLE - 4
    curve = run.curve("train_loss")
    if beside >= _LEAST_CURVE:
        drawn = sparkline(curve, run.steps, beside, len(figures))
        for line, text in zip(table[1:], drawn, strict=True):
            line.append("    ").append(text, style="cyan")
        table[0].append(f"    loss, {_ends(curve)}", style="dim")
    lines += table
    if any(figure.committed_step not in (None, figure.step) for figure in figures):
        lines.append(Text("* of the nearest earlier step that the committed run logged", "dim"))
    if not any(figure.committed_step is not None for figure in figures):
        lines.append(Text("no committed run of this condition and seed", "dim"))
    if beside < _LEAST_CURVE:
        [text] = sparkline(curve, run.steps, width - 6)
        lines.append(Text("loss ", "dim").append(text, style="cyan"))
    lines += _wrapped(facts(run), width)
    return Group(*lines, Text())


def _ends(curve: Curve) -> str:
    """Return the range of a sparkline in words."""
    first = BEGINNING * max(curve, default=0)
    values = [value for step, value in curve.items() if step >= first]
    return f"{min(values):.2f} to {max(values):.2f}" if values else ""


def _head(run: Run, width: int) -> RenderableType:
    bar = Progress(run.name, run.step, run.steps, "steps", "", run.last("seconds_left"))
    seconds = run.driven.seconds if run.driven else None
    quiet = f"no row for {spent(run.quiet, whole=True)}" if run.quiet >= 60 else ""
    return _bar_row(run.name, bar, quiet, seconds, bar.seconds_left, width, bold=True)


def _line(run: Run, width: int) -> RenderableType:
    """Return a run as one line."""
    figures = run.compared()
    said = ", ".join(cell for cell in figure_cells(figures[0])[2::2] if cell) if figures else ""
    bar = Progress(run.name, run.step, run.steps, "steps", said, run.last("seconds_left"))
    seconds = run.driven.seconds if run.driven else None
    return _bar_row(run.name, bar, said, seconds, bar.seconds_left, width)


def _instance(instance: RunningInstance, width: int) -> RenderableType:
    said = what_it_does(instance.name, instance.bar) if instance.bar else ""
    return _bar_row(
        instance.name, instance.bar, said, instance.seconds, instance.seconds_left, width
    )


def _bar_row(
    name: str,
    bar: Progress | None,
    said: str,
    seconds: float | None,
    left: float | None,
    width: int,
    bold: bool = False,
) -> RenderableType:
    """Return a line with the columns of `make repro`'s table."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.width = width
    table.add_column(no_wrap=True, width=min(36, width - 30))
    table.add_column(width=width // 8 if width >= NARROW else 1)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, justify="right", min_width=6)
    table.add_row(
        Text(cut(name, min(36, width - 30)), style="bold" if bold else ""),
        _drawn(bar, width // 8) if width >= NARROW else Text(),
        Text(_share(bar, width)),
        Text(said if width >= NARROW else "", style="dim"),
        Text("" if seconds is None else clock(seconds)),
        Text(f"-{clock(left)}" if left and left >= 0.5 else "", style="cyan"),
    )
    return table


def _drawn(bar: Progress | None, width: int) -> Text | ProgressBar:
    if bar is None or not bar.total:
        return Text()
    done = min(bar.done, bar.total)
    return ProgressBar(bar.total, done, width=width, style="dim", complete_style="cyan")


def _share(bar: Progress | None, width: int) -> str:
    if bar is None:
        return ""
    if bar.total is None:
        return f"{bar.done:,} {bar.unit}".strip()
    if width < ROOMY:
        return f"{100 * bar.done // max(1, bar.total)} %"
    return f"{bar.done:,} of {bar.total:,} {bar.unit}".strip()


def _heading() -> Text:
    words = ("step", "now", "committed", "difference")
    cells = [f"{word:>{size}}" for word, size in zip(words, _FIGURE, strict=True)]
    return Text(" " * _LABEL + "".join(cells), style="dim", no_wrap=True)


def _row(figure: Compared) -> Text:
    line = Text(f"{figure.label:<{_LABEL}}", no_wrap=True)
    step, now, committed, difference = _FIGURE
    line.append(f"{figure.step:>{step},}", style="dim")
    line.append(f"{figure.value:>{now}.4f}", style="bold")
    if figure.committed is None or figure.difference is None:
        line.append(f"{'none':>{committed}}", style="dim")
        return line.append(" " * difference)
    mark = "" if figure.committed_step == figure.step else "*"
    line.append(f"{figure.committed:.4f}{mark}".rjust(committed))
    # A lower value is better for each of these figures.
    style = "green" if figure.difference < 0 else "yellow" if figure.difference > 0 else ""
    return line.append(f"{figure.difference:>+{difference}.4f}", style=style)


def figure_cells(figure: Compared) -> list[str]:
    """Return a figure as texts: label, step, value, committed value, difference."""
    cells = [figure.label, f"{figure.step:,}", f"{figure.value:.4f}"]
    if figure.committed is None or figure.difference is None:
        return [*cells, "none", ""]
    at = "" if figure.committed_step == figure.step else f" at {figure.committed_step:,}"
    return [*cells, f"{figure.committed:.4f}{at}", f"{figure.difference:+.4f}"]


def _value(figure: Compared) -> str:
    if figure.difference is None:
        return f"{figure.value:.4f}"
    at = "" if figure.committed_step == figure.step else f" at step {figure.committed_step:,}"
    return f"{figure.value:.4f} (committed{at} {figure.committed:.4f}, {figure.difference:+.4f})"


def facts(run: Run) -> list[str]:
    """Return a run's rates and spikes in words, as far as its rows have them."""
    forms = {
        "learning_rate": "learning rate {:.2e}",
        "gradient_norm": "gradient norm {:.3g}",
        "tokens_per_second": "{:,.0f} tokens/s",
        "mfu": "MFU {:.0%}",
    }
    values = {key: run.last(key) for key in forms}
    rates = [form.format(values[key]) for key, form in forms.items() if values[key] is not None]
    spikes = run.last("loss_spikes")
    if spikes is None:
        return rates
    return [
        f"{spikes:.0f} loss spike{'' if spikes == 1 else 's'}" if spikes else "no spikes",
        *rates,
    ]


def _wrapped(words: Sequence[str], width: int) -> list[Text]:
    lines: list[Text] = [Text(no_wrap=True)]
    for word in words:
        if lines[-1].cell_len:
            lines[-1].append(", ")
        if lines[-1].cell_len + len(word) + 1 > width:
            lines[-1].rstrip()
            lines.append(Text(no_wrap=True))
        is_spike = "spike" in word and not word.startswith("no")
        lines[-1].append(word, style="bold yellow" if is_spike else "")
    return lines


def _stopped(runs: Sequence[Run]) -> list[Text]:
    return [
        Text(no_wrap=True, overflow="ellipsis")
        .append(f"{'stopped':<8} ", style=STYLES["stopped"])
        .append(
            f"{run.name} at step {run.step:,} of {run.steps:,}, {spent(run.quiet, whole=True)} ago"
        )
        for run in runs
    ]


def footer(driver: DriverState) -> Text:
    """Return the line about the driver's whole run."""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{driver.ended} of {counted(driver.total)} done", style="bold")
    if driver.failed:
        line.append(f", {driver.failed} failed", style="bold red")
    line.append(f", {clock(driver.seconds)}")
    if driver.stopping:
        line.append(", stopping", style="yellow")
    elif driver.failed:
        line.append(", ends when what runs has ended", style="yellow")
    elif driver.seconds_left is not None:
        left = spent(max(1.0, driver.seconds_left), whole=True)
        line.append(f", about {left} left", style="cyan")
    return line
