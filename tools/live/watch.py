"""Show what runs in this repository now, with losses beside the committed run's (`make watch`).

    python -m tools.live.watch                 in the terminal, until Ctrl-C
    python -m tools.live.watch --once          print what runs now, and end
    python -m tools.live.watch --page          a page with the report's charts, on 127.0.0.1:8890

If stdout is no terminal, it prints what runs once a minute, if that has changed. Ctrl-C ends it
with status 0. Reads live.jsonl, which `pretrain` and `sft` write in their scratch folders
(docs/operations.md), the driver's state, and the committed run's curves. Writes nothing.
"""

import os
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live

from common.errors import PipelineError
from pipeline.terminal.command_lines import command_line
from tools.live.runs import Watch
from tools.live.terminal import Screen, ended_line

REFRESH = 1.0  # seconds
PORT = 8890
_COLUMNS = 80  # without a terminal


def main() -> None:
    parser = command_line("tools.live.watch", __doc__)
    parser.add_argument("--once", action="store_true", help="print what runs now, and end")
    parser.add_argument(
        "--every",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="seconds between two prints without a terminal; default 60",
    )
    parser.add_argument("--page", action="store_true", help="serve a page on 127.0.0.1")
    parser.add_argument("--port", type=int, default=PORT, help=f"port of the page; default {PORT}")
    options = parser.parse_args()
    watch = Watch(Path.cwd())
    try:
        if options.page:
            from tools.live.page import serve  # imports jinja and Vega, which takes a second

            serve(watch, options.port)
        elif options.once:
            watch.poll()
            _console().print(Screen(watch, waits=False))
        elif _is_terminal():
            _live(watch)
        else:
            _lines(watch, options.every)
    except KeyboardInterrupt:
        pass
    except PipelineError as error:
        sys.exit(f"error: watch: {error}")


def _is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("", "dumb", "unknown")


def _console() -> Console:
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _COLUMNS
    return Console(highlight=False, markup=False, emoji=False, width=width)


def _live(watch: Watch) -> None:
    console = _console()
    watch.poll()
    try:
        with Live(Screen(watch, fits=True), console=console, auto_refresh=False) as live:
            # Live hides the cursor; show it, because a killed process could not.
            console.show_cursor()
            width = console.width
            while True:
                if console.width < width:  # the terminal has wrapped what was drawn
                    console.clear()
                width = console.width
                live.refresh()
                time.sleep(REFRESH)
                for run in watch.poll():
                    console.print(ended_line(run), no_wrap=True, overflow="ellipsis")
    finally:  # Ctrl-C may come while Live starts, just after it has hidden the cursor
        console.show_cursor()


def _lines(watch: Watch, every: float) -> None:
    console, shown, said = _console(), -every, ""
    while True:
        for run in watch.poll():
            print(ended_line(run).plain, flush=True)
        if time.monotonic() - shown >= every:
            with console.capture() as captured:
                console.print(Screen(watch))
            shown = time.monotonic()
            if captured.get() != said:
                print(end="\n" if said else "")
                said = captured.get()
                print(said, end="", flush=True)
        time.sleep(REFRESH)


if __name__ == "__main__":
    main()
