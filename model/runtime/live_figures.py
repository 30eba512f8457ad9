"""A run's figures while it trains: a file that tools follow, and lines in logs.

live.jsonl in the run's scratch folder has one JSON object a line: `kind` ("training" or
"validation"), `run`, `step`, `steps` (of the whole run), and figures by name, for example

    {"kind": "training", "run": "a/seed_1", "step": 50, "steps": 3200, "train_loss": 4.1234, …}

Tools outside DVC's graph follow it (tools/live/follow.py). No output depends on it, so it may hold
rates and times. It is removed with the scratch folder.
"""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

NAME = "live.jsonl"
# In the order of a line. A terminal cuts long lines, so loss and speed come first.
_WORDS = {
    "train_loss": "loss {:.4f}",
    "val_loss": "validation loss {:.4f}",
    "tokens_per_second": "{:,.0f} tokens/s",
    "mfu": "MFU {:.0%}",
    "train_bits_per_byte": "{:.4f} bits per byte",
    "val_bits_per_byte": "{:.4f} bits per byte",
    "val_drill_bits_per_byte": "{:.4f} of drills",
    "learning_rate": "learning rate {:.2e}",
}


class LiveFigures:
    """Append the rows of the run `run`, which has `steps` steps, to live.jsonl in `scratch`.

    If stderr or stdout is not a terminal, each row is also printed there as a line, since a
    progress bar would not show. Every process creates an instance. `scratch` is None in all but the
    first, which alone writes and prints. Call `go_on` before the first `append`.
    """

    def __init__(self, scratch: Path | None, run: str, steps: int):
        self._path = None if scratch is None else scratch / NAME
        self._run, self._steps = run, steps

    def go_on(self, step: int) -> None:
        """Keep a killed run's rows up to `step`, where this run resumes; 0 keeps none.

        The file is replaced by a new one. So a reader sees that rows were cut off, even if the file
        has grown past its old size meanwhile.
        """
        if self._path is None:
            return
        kept = _rows_up_to(self._path, step) if step else b""
        partial = self._path.with_name(f".{NAME}.partial")
        partial.write_bytes(kept)
        os.replace(partial, self._path)

    def append(self, kind: str, step: int, **figures: Any) -> None:
        """Append a row and pass it to the operating system, so a kill cannot lose it.

        A full disk or a closed log does not stop training: the row or the line is left out.
        """
        if self._path is None:
            return
        row = {"kind": kind, "run": self._run, "step": step, "steps": self._steps, **figures}
        with suppress(OSError), open(self._path, "ab") as file:
            file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        # Flushed, so that a reader of the log sees the line at once.
        if output := _kept_output():
            with suppress(OSError):
                print(line(row), file=output, flush=True)


def line(row: Mapping[str, Any]) -> str:
    """Return a row as a log line: `pretrain a/seed_1: step 50 of 3200, loss 4.1234, 40 s left`."""
    left = row.get("seconds_left")
    words = [f"step {row['step']} of {row['steps']}", in_words(row)]
    # Validation rows have no estimate of the time left.
    if left is not None:
        words.append(f"{duration(left)} left")
    return f"{row['run']}: {', '.join(filter(None, words))}"


def in_words(figures: Mapping[str, Any]) -> str:
    """Return the figures of `_WORDS` in their order: `loss 4.1234, 2.2218 bits per byte`."""
    return ", ".join(
        words.format(figures[name])
        for name, words in _WORDS.items()
        if figures.get(name) is not None
    )


def duration(seconds: float) -> str:
    """Return seconds as `40 s`, `2 min 40 s` or `1 h 03 min`."""
    if (whole := round(seconds)) < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return (
        f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    )


def _kept_output() -> IO[str] | None:
    """Return stderr or stdout if it goes to a file or pipe; None if both are terminals.

    A terminal shows the progress bar instead. A process started without a stream (`2>&-`) has None
    in its place.
    """
    for stream in (sys.stderr, sys.stdout):
        if stream is not None and not stream.isatty():
            return stream
    return None


def _rows_up_to(path: Path, step: int) -> bytes:
    """Return the file's complete lines before the first one of a later step or without a step."""
    kept = b""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return kept
    for row in content.splitlines(keepends=True):
        # A kill may have cut the last line.
        if not row.endswith(b"\n") or not _step(row) <= step:
            break
        kept += row
    return kept


def _step(row: bytes) -> float:
    """Return the step of a row, or infinity if the row is damaged."""
    try:
        return int(json.loads(row)["step"])
    except (KeyError, TypeError, ValueError):
        return float("inf")
