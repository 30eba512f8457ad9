"""What a person sees of a run: lines, or a live table in a terminal."""

import fcntl
import io
import os
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.driver.live_view import LiveView, clock, cut
from pipeline.driver.place import Job, Progress
from pipeline.driver.printed import Printed
from pipeline.driver.view import (
    View,
    in_words_of_status,
    make_view,
    spent,
    summary,
    what_it_does,
)

BAR = Progress("baseline/seed_1337", 1440, 3200, "step", "loss 4.123, 20 tokens/s", 50.0)
ROOT = Path(__file__).resolve().parents[3]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def job(name: str, devices: tuple[str, ...] = ()) -> Job:
    given = {"name": name, "threads": 1, "devices": devices}
    missing = [field for field in Job._fields if field not in {*given, *Job._field_defaults}]
    return Job(**given, **dict.fromkeys(missing, ()))


class Plain:
    def __init__(self, every: float = 60):
        self.out, self.clock = io.StringIO(), Clock()
        self.view = View(self.out, every, self.clock)

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


class Live:
    """A live view on a console that records."""

    def __init__(self, width: int = 100, height: int = 24, **settings: object):
        self.file, self.clock = io.StringIO(), Clock()
        settings = {"color_system": "standard", "force_terminal": True, **settings}
        self.console = Console(file=self.file, width=width, height=height, **settings)
        self.view = LiveView(self.console, self.clock)

    def drawn(self) -> list[str]:
        """Return the lines of the table as it is now."""
        console = Console(file=io.StringIO(), width=self.console.width, height=self.console.height)
        console.print(self.view)
        separator, *lines = console.file.getvalue().splitlines()
        assert not separator
        return lines

    @property
    def left(self) -> str:
        """What the terminal shows after all."""
        lines = Printed()
        lines.add(self.file.getvalue())
        return lines.log


def test_plain_lines_of_a_run():
    plain = Plain()
    view, clock = plain.view, plain.clock
    view.planned(["params", "fetch", "export@a-500", "pretrain@a", "report"], {})
    view.started(job("params"))
    view.started(job("pretrain@a", ("0", "3")))
    clock.now += 0.3
    view.finished("params", 0.31, "a warning\nparams: 2 conditions, 1 seeds\n\n")
    view.restored("export@a-500")
    view.unchanged("fetch")
    for _ in range(300):
        clock.now += 0.5
        view.progressed({"pretrain@a": BAR})
    view.started(job("report"))
    view.finished("pretrain@a", 160.4, "")
    view.finished("report", 0.04, "report: plots/report.html, 1.2 MB\n")
    view.closed()
    view.closed()
    assert plain.lines == [
        "start    params",
        "start    pretrain@a on GPU 0,3",
        "done     params, 0.3 s: 2 conditions, 1 seeds",
        "restored export@a-500",
        "running  pretrain@a, 10.3 s: baseline/seed_1337: 1440 of 3200 step, "
        "loss 4.123, 20 tokens/s, 50 s left",
        "running  pretrain@a, 1 min 10 s: baseline/seed_1337: 1440 of 3200 step, "
        "loss 4.123, 20 tokens/s, 50 s left",
        "running  pretrain@a, 2 min 10 s: baseline/seed_1337: 1440 of 3200 step, "
        "loss 4.123, 20 tokens/s, 50 s left",
        "start    report",
        "done     pretrain@a, 2 min 40 s",
        "done     report, 0.0 s: plots/report.html, 1.2 MB",
        "3 instances run, 1 restored, 1 unchanged; 2 min 30 s",
    ]


def test_plain_line_of_an_instance_without_a_bar():
    plain = Plain(every=10)
    plain.view.started(job("a"))
    plain.clock.now += 10
    plain.view.progressed({})
    plain.view.progressed({"a": Progress("", 7, None, "doc", "", None)})
    plain.clock.now += 10
    plain.view.progressed({"a": Progress("", 7, None, "doc", "", None)})
    assert plain.lines[1:] == ["running  a, 10.0 s", "running  a, 20.0 s: 7 doc"]


def test_an_instance_whose_figures_change_has_a_line_every_ten_seconds():
    plain = Plain()
    for name in ("a", "b"):
        plain.view.started(job(name))
    for second in range(1, 26):
        plain.clock.now += 1
        said = f"loss {4 - second // 5}.000"
        plain.view.progressed({name: BAR._replace(label=name, said=said) for name in ("a", "b")})
    running = [line[9:18] for line in plain.lines[2:]]
    assert running == ["a, 10.0 s", "b, 10.0 s", "a, 20.0 s", "b, 20.0 s"]
    assert "loss 2.000" in plain.lines[2]
    assert "loss 0.000" in plain.lines[4]


@pytest.mark.parametrize("kind", [Plain, Live])
def test_output_of_a_failed_stage_comes_last_and_then_what_to_do(kind, capsys):
    shown = kind()
    view = shown.view
    view.planned(["a", "b", "c"], {}, slots=2)
    view.started(job("a"))
    view.started(job("b"))
    shown.clock.now += 3.1
    view.failed("a", 1, "[bold]not markup[/]\n\nerror: 'é' :smile:\n")
    view.finished("b", 5.0, "b: well\n")
    view.failed("c", -9, "no newline")
    view.closed()
    out = shown.lines if kind is Plain else shown.left.splitlines()
    assert out[-9:] == [
        "1 instance run; 3.1 s",
        "",
        "a printed:",
        "[bold]not markup[/]",
        "",
        "error: 'é' :smile:",
        "",
        "c printed:",
        "no newline",
    ]
    assert any(line.startswith("failed   a after 3.1 s: exit status 1") for line in out)
    assert capsys.readouterr().err == (
        "error: driver: a (exit status 1), c (killed by SIGKILL, as Linux does when memory runs "
        "out) failed, see the output above; all that is done is recorded. "
        "Mend it and run this again\n"
    )


@pytest.mark.parametrize("kind", [Plain, Live])
def test_signal_stops_what_runs_and_is_no_failure(kind, capsys):
    shown = kind()
    view = shown.view
    view.planned(["a", "b", "c"], {})
    view.started(job("a"))
    view.started(job("b"))
    view.stopping(signal.SIGINT)  # in a signal's handler, so nothing may be printed yet
    before = shown.file.getvalue() if kind is Live else shown.out.getvalue()
    assert "SIGINT" not in before
    shown.clock.now += 2
    view.progressed({})
    view.finished("a", 2.0, "")
    view.stopping(signal.SIGKILL)
    view.closed()
    out = shown.lines if kind is Plain else shown.left.splitlines()
    assert [" ".join(line.split()) for line in out if not line.startswith("start ")] == [
        "SIGINT stops 2 instances; a second signal kills what still runs",
        "done a, 2.0 s" if kind is Plain else "done a 2.0 s",
        "SIGKILL stops 1 instance",
        "stopped b after 2.0 s",
        "1 instance run; 2.0 s",
    ]
    assert capsys.readouterr().err == (
        "error: driver: SIGINT stopped the run; all that is done is recorded. "
        "Run this again to go on\n"
    )


def test_run_goes_on_when_the_terminal_is_gone(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    live = LiveView(Console(file=Gone(), force_terminal=True, width=80))
    for view in (View(Gone()), live):
        view.planned(["a"], {})
        view.started(job("a"))
        view.progressed({})
        view.finished("a", 1.0, "said\n")
        view.closed()


@pytest.mark.parametrize("width", [60, 72, 100, 160])
def test_table_fits_the_terminal_and_names_stay_distinct(width):
    live = Live(width)
    names = [f"evaluate@multiplication_tokens-1337-{step}" for step in (500, 1500, 3200)]
    live.view.planned(["pretrain@baseline-1337", *names], dict.fromkeys(names, 20.0))
    for name in ("pretrain@baseline-1337", *names):
        live.view.started(job(name))
    live.clock.now += 32
    live.view.progressed({"pretrain@baseline-1337": BAR, names[0]: BAR._replace(total=None)})
    table = live.drawn()
    assert len(table) == 5
    assert max(map(len, table)) <= width
    assert len({line.split()[0] for line in table}) == 5
    assert table[0].startswith("pretrain@baseline-1337 ")
    assert table[0].endswith("0:32   -0:50")
    assert ("1440/3200 step" in table[0]) == (width >= 100)
    assert ("45 %" in table[0]) == (width < 100)
    assert ("━" in table[0]) == (width >= 72)
    assert ("loss 4.123, 2" in table[0]) == (width >= 100)
    assert "1440 step" in table[1]
    assert table[-1].startswith("0 of 4 instances done, 0:32")


def test_more_run_than_the_terminal_has_lines():
    live = Live(height=7)
    names = [f"a@{number}" for number in range(9)]
    live.view.planned(names, dict.fromkeys(names, 60.0), slots=9)
    for name in names:
        live.view.started(job(name))
    assert [line.split()[0] for line in live.drawn()] == ["a@0", "a@1", "a@2", "and", "0"]
    assert live.drawn()[-2:] == ["and 6 more", "0 of 9 instances done, 0:00, about 1 min 00 s left"]


def test_ended_instances_are_left_above_as_one_line_each():
    live = Live(60)
    view = live.view
    names = ["params", "fetch@ranks", "corpus", "export@baseline-1337-500"]
    view.planned(names, {}, slots=2)
    view.started(job("params"))
    view.progressed({"params": BAR})
    view.finished("params", 0.31, "params: 2 conditions, 1 seeds\n")
    view.unchanged("fetch@ranks")
    view.restored("export@baseline-1337-500")
    view.started(job("corpus"))
    view.finished("corpus", 160.0, f"corpus: {'many words ' * 20}\n")
    view.closed()
    assert live.left.splitlines() == [
        "done     params  0.3 s  2 conditions, 1 seeds",
        "restored export@baseline-1337-500",
        "done     corpus  2 min 40 s  many words many words many wor…",
        "2 instances run, 1 restored, 1 unchanged; 0.0 s",
    ]


def test_nothing_is_drawn_when_nothing_runs():
    live = Live()
    live.view.planned(["a", "b"], {})
    for name in ("a", "b"):
        live.view.unchanged(name)
        live.view.progressed({})
    live.view.closed()
    assert live.file.getvalue() == "0 instances run, 2 unchanged; 0.0 s\n"


def test_table_is_drawn_four_times_a_second_at_most():
    live = Live()
    live.view.planned(["a"], {"a": 60.0})
    live.view.started(job("a"))
    before = live.file.getvalue().count("instance done")
    for _ in range(200):
        live.clock.now += 0.01
        live.view.progressed({"a": BAR})
    assert live.file.getvalue().count("instance done") - before == 8


def test_lines_that_a_narrower_terminal_has_wrapped_are_erased():
    live = Live(100)
    live.view.planned(["a", "b"], {})
    for name in ("a", "b"):
        live.view.started(job(name))
    live.view.progressed({})
    before = len(live.file.getvalue())
    live.console.width = 40  # each of two full lines is three now, and the others one
    live.clock.now += 1
    live.view.progressed({})
    redrawn = live.file.getvalue()[before:]
    assert redrawn.partition("a ")[0].count("\x1b[1A\x1b[2K") == 2 * 2 + 3


def test_no_color_removes_colours_and_keeps_the_bar(monkeypatch):
    coloured, plain = Live(), None
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Live()
    for live in (coloured, plain):
        live.view.planned(["a"], {"a": 60.0})
        live.view.started(job("a"))
        live.clock.now += 1
        live.view.progressed({"a": BAR})
        live.view.failed("a", 1, "")
        live.view.closed()
    colour = re.compile(r"\x1b\[[\d;]*3[0-7][\d;]*m")
    assert colour.search(coloured.file.getvalue())
    assert not colour.search(plain.file.getvalue())
    assert "━" in plain.file.getvalue()


@pytest.mark.parametrize(
    ("name", "log", "expected"),
    [
        ("params", "params: 2 conditions", "2 conditions"),
        ("export@a-500", "x\nexport a/step_500: logits: differ\n \n", "logits: differ"),
        ("export@a-500", "exported: well", "exported: well"),
        ("a", "", ""),
        ("c++@1", "c++ 1: x", "x"),
    ],
)
def test_summary_is_the_last_line_without_the_name(name, log, expected):
    assert summary(name, log) == expected


def test_label_is_shown_without_what_the_name_says_already():
    name = "evaluate@mul_tokens-1337-500"
    for label, said, expected in (
        ("mul_tokens/seed_1337/step_500 hellaswag", "loss 4", "hellaswag, loss 4"),
        ("evaluate mul_tokens", "", ""),
        ("Loading weights", "", "Loading weights"),
        ("", "loss 4", "loss 4"),
    ):
        assert what_it_does(name, Progress(label, 1, 2, "it", said, None)) == expected


def test_times_names_and_statuses_in_words():
    assert [spent(seconds) for seconds in (0, 59.4, 59.9, 3599, 3600, 90_000)] == [
        "0.0 s",
        "59.4 s",
        "1 min 00 s",
        "59 min 59 s",
        "1 h 00 min",
        "25 h 00 min",
    ]
    assert [clock(seconds) for seconds in (-1, 59.6, 3723)] == ["0:00", "1:00", "1:02:03"]
    assert cut("evaluate@multiplication-1337-500", 20) == "evaluate@…n-1337-500"
    assert cut("short", 20) == "short"
    assert in_words_of_status(130) == "exit status 130"
    assert in_words_of_status(-signal.SIGSEGV) == "killed by SIGSEGV"
    assert in_words_of_status(-64 - 1) == "killed by signal 65"


PROGRAM = """
import os, signal, sys, time
from pipeline.driver.place import Job, Progress
from pipeline.driver.view import make_view

def job(name):
    required = [field for field in Job._fields if field not in Job._field_defaults]
    return Job(**dict.fromkeys(required, ()) | {"name": name})

view = make_view()
view.planned(["a", "b"], {"a": 5.0, "b": 5.0}, slots=2)
try:
    view.started(job("a"))
    view.started(job("b"))
    for done in range(8):
        view.progressed({"a": Progress("", done, 8, "step", "", 1.0)})
        time.sleep(0.1)
        if done == 3:
            BETWEEN
    view.finished("a", 1.0, "a: é █ well\\n")
finally:
    view.closed()
"""


def in_terminal(between: str, columns: int = 80, **environment: str) -> tuple[str, str]:
    """Run PROGRAM in a terminal; return all bytes as text, and what the terminal shows at last."""
    parent, child = os.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    program = PROGRAM.replace("BETWEEN", between)
    settings = {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment}
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR",)}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        stdout=child,
        stderr=child,
        env=kept | settings,
    ):
        os.close(child)
        content = b""
        try:
            while part := os.read(parent, 65_536):
                content += part
        except OSError:  # Linux's end of a pseudo-terminal
            pass
    os.close(parent)
    text = content.decode(errors="replace")
    lines = Printed()
    lines.add(text)
    return text, lines.log


def test_live_table_in_a_real_terminal_leaves_only_its_lines():
    raw, left = in_terminal("print('a warning'); print('another', file=sys.stderr)")
    assert raw.count("of 2 instances done") > 3
    assert "\x1b[3" in raw
    assert raw.rfind("\x1b[?25h") > raw.rfind("\x1b[?25l")
    shown = [re.sub(r"[\d.]+ s", "… s", " ".join(line.split())) for line in left.splitlines()]
    assert shown == [
        "a warning",
        "another",
        "done a … s é █ well",
        "stopped b after … s",
        "1 instance run; … s",
    ]


def test_exception_clears_the_table_and_is_printed_after_it():
    raw, left = in_terminal("raise ValueError('of the driver')")
    assert "of 2 instances done" in raw
    assert "of 2 instances done" not in left
    assert left.splitlines()[-1] == "ValueError: of the driver"
    assert raw.rfind("\x1b[?25h") > raw.rfind("\x1b[?25l")


def test_killed_driver_leaves_the_cursor_visible():
    raw, _ = in_terminal("os.kill(os.getpid(), signal.SIGKILL)")
    assert raw.rfind("\x1b[?25h") > raw.rfind("\x1b[?25l") >= 0


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TERM": ""}])
def test_terminal_that_cannot_move_its_cursor_gets_lines(environment):
    raw, _ = in_terminal("pass", **environment)
    assert "\x1b" not in raw
    assert raw.startswith("start    a\r\nstart    b\r\ndone     a, 1.0 s: é █ well\r\n")


def test_locale_that_lacks_a_character_gets_another():
    settings = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    raw, left = in_terminal("pass", **settings)
    assert "1.0 s  ? ? well" in left
    assert "Traceback" not in raw


def test_redirected_output_is_lines(capsys):
    view = make_view()
    assert type(view) is View
    view.started(job("a"))
    assert capsys.readouterr().out == "start    a\n"
