"""Turn what a process has printed into the lines that a terminal would show.

    "a\\rbc"        `\\r` starts the line again:         bc
    "a\\n\\x1b[Ab"   tqdm's nested bars move the cursor:  b, and an empty line

Text after `\\r` replaces the whole line. A terminal would keep the end of a longer old text, but
programs that print `\\r` mean to replace it.
"""

import re
from collections import deque
from itertools import islice

from pipeline.driver.bars import read_bar
from pipeline.driver.place import Progress

FIRST, LAST = 32_000, 256_000  # characters kept at the start and at the end of a huge log
LONGEST_LINE = 32_000  # characters; a longer line can no longer be replaced
WINDOW = 64  # how many lines the cursor can move up
LONGEST_SEQUENCE = 4096  # characters of a control sequence

_PIECE = re.compile(
    r"""(?P<text>[^\x00-\x08\x0a-\x1f\x7f-\x9f]+)
    | (?P<sequence>\x1b\[[0-?]*[ -/]*[@-~])
    | (?P<other>\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)  # a title, a link
        | \x1b[ -/]*[0-OQ-WYZ\\`-~])
    | (?P<part>\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)?\Z)
    | (?P<control>[\s\S])""",
    re.VERBOSE,
)


class Printed:
    """What a process has printed, as lines, and its newest progress bar."""

    def __init__(self) -> None:
        self._lines = [""]  # the last lines, which may still change; earlier ones are in _final
        self._at = 0  # the cursor's line
        self._anew = True  # whether the next text replaces the line
        self._part = ""  # the beginning of a control sequence, to be completed by the next text
        self._final = _Final()
        self._bar: Progress | None = None
        self._looked = 0  # the cursor's line at the last search for bars

    def add(self, text: str) -> None:
        """Process the next text."""
        text, self._part = self._part + text, ""
        for piece in _PIECE.finditer(text):
            match piece.lastgroup:
                case "text":
                    self._write(piece[0])
                case "sequence":
                    self._follow(piece[0])
                case "control":
                    self._control(piece[0])
                case "part" if len(piece[0]) <= LONGEST_SEQUENCE:
                    self._part = piece[0]
        self._look_for_bar()

    @property
    def progress(self) -> Progress | None:
        """The newest bar; of nested bars, the outermost."""
        return self._bar

    @property
    def log(self) -> str:
        """What was printed, without bars, ending in one newline unless it is empty."""
        return self._final.text(_without_bars(self._lines))

    def _write(self, text: str) -> None:
        if self._anew:
            self._lines[self._at], self._anew = text, False
        else:
            self._lines[self._at] += text
        if len(self._lines[self._at]) > LONGEST_LINE:
            self._final.add(_without_bars(self._lines[: self._at]) + self._lines[self._at])
            self._lines, self._at, self._looked = [""], 0, 0

    def _control(self, character: str) -> None:
        if character == "\r":
            self._anew = True
        elif character == "\n":
            self._at, self._anew = self._at + 1, True
            if self._at == len(self._lines):
                self._lines.append("")
            if self._at >= 2 * WINDOW:
                self._end(self._at - WINDOW)
        elif character == "\b" and not self._anew:
            self._lines[self._at] = self._lines[self._at][:-1]

    def _follow(self, sequence: str) -> None:
        """Move the cursor up, down or to the line's start, or erase; ignore other sequences."""
        number, kind = sequence[2:-1], sequence[-1]
        count = max(1, int(number[:4])) if number.isdecimal() else 1
        if kind in "AF":
            self._at = max(0, self._at - count)
        elif kind in "BE":
            self._at = min(len(self._lines) - 1, self._at + count)
        if kind in "EF" or (kind == "G" and number in ("", "0", "1")):
            self._anew = True
        if (kind == "K" and (number == "2" or self._anew)) or (kind == "J" and self._anew):
            self._lines[self._at] = ""

    def _end(self, count: int) -> None:
        """Make the first `count` lines final."""
        self._final.add(_without_bars(self._lines[:count]))
        del self._lines[:count]
        self._at -= count
        self._looked = max(0, self._looked - count)

    def _look_for_bar(self) -> None:
        # tqdm leaves the cursor in the outer bar's line: nested bars are below it, and a bar that
        # has just ended is above it.
        below = islice(self._lines, self._at, None)
        above = reversed(self._lines[min(self._looked, self._at) : self._at])
        self._looked = self._at
        for line in (*below, *above):
            if bar := read_bar(line):
                self._bar = bar.progress
                return


class _Final:
    """A text of which only the first and the last part are kept."""

    def __init__(self) -> None:
        self._first = ""
        self._last: deque[str] = deque()
        self._lasting = self._left_out = 0  # characters

    def add(self, text: str) -> None:
        room = FIRST - len(self._first)
        self._first, text = self._first + text[:room], text[room:]
        if text:
            self._last.append(text)
            self._lasting += len(text)
        while self._last and self._lasting - len(self._last[0]) >= LAST:
            gone = len(self._last.popleft())
            self._lasting -= gone
            self._left_out += gone

    def text(self, end: str) -> str:
        """Return what is kept, followed by `end`."""
        last = "".join(self._last) + end
        if not self._left_out and len(last) <= LAST:
            whole = (self._first + last).rstrip()
            return whole + "\n" if whole else ""
        kept = last[-LAST:]
        whole_lines = kept.partition("\n")[2]
        if whole_lines.strip():
            kept = whole_lines
        left_out = self._left_out + len(last) - len(kept)
        return f"{self._first.rstrip()}\n[{left_out:,} characters left out]\n{kept.rstrip()}\n"


def _without_bars(lines: list[str]) -> str:
    shown = []
    for line in lines:
        bar = read_bar(line)
        if not bar:
            shown.append(line + "\n" if line.strip() else "\n")
        elif bar.behind.strip():
            shown.append(bar.behind + "\n")
    return "".join(shown)
