"""What `make watch` shows in a terminal, and where there is none."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from live_rows import append, live_file, training_row, validation_row, write_committed
from repository import REPOSITORY
from rich.console import Console
from signals import as_in_a_terminal

from pipeline.driver.place import Progress
from pipeline.driver.state_file import STATE, DriverState, RunningInstance
from tools.live.runs import Watch
from tools.live.terminal import Screen, ended_line, sparkline


def drawn(watch: Watch, width: int, height: int = 50, **settings) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, highlight=False, **settings)
    console.print(Screen(watch, fits=True))
    return console.file.getvalue()


@pytest.fixture
def watch(tmp_path) -> Watch:
    steps = range(50, 1001, 50)
    committed = {"train": {step: 8.0 - step / 1000 for step in steps}, "val": {800: 7.3}}
    write_committed(tmp_path, "loss", committed)
    rows = [training_row(step, 8.01 - step / 1000) for step in steps]
    append(live_file(tmp_path), *rows[:16], validation_row(800, 7.25), *rows[16:])
    found = Watch(tmp_path)
    found.poll()
    return found


def drive(root: Path, *running: RunningInstance) -> None:
    own, state = psutil.Process(), DriverState(44, 12, 0, False, 37.2, 48.0, running)
    content = {"process": own.pid, "began": own.create_time(), "state": state}
    (root / STATE).parent.mkdir(parents=True, exist_ok=True)
    (root / STATE).write_text(json.dumps(content))


@pytest.mark.parametrize("width", [60, 80, 140])
def test_losses_stand_beside_the_committed_run_s_and_nothing_is_cut(watch, width):
    lines = drawn(watch, width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("pretrain baseline/seed_1337")
    assert "0:34" in lines[0]
    assert ("1,000 of 3,200 steps" if width == 140 else "31 %") in lines[0]
    assert lines[2].split()[:5] == ["loss", "1,000", "7.0100", "7.0000", "+0.0100"]
    assert lines[3].split()[:6] == ["bits", "per", "byte", "1,000", "3.5050", "none"]
    assert lines[4].split()[:6] == ["validation", "loss", "800", "7.2500", "7.3000", "-0.0500"]
    text = "\n".join(lines)
    assert "no spikes, learning rate 4.00e-03, gradient norm 0.812" in text
    assert "32,900 tokens/s" in text
    assert "█" in text
    assert "…" not in text
    assert "MFU" not in text


def test_colours_are_left_out_where_no_color_says_so(watch, monkeypatch):
    settings = {"force_terminal": True, "color_system": "standard"}
    assert "\x1b[32m" in drawn(watch, 80, **settings), "a smaller loss is green"
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in drawn(watch, 80, **settings)


def test_spikes_are_counted_and_stand_out(watch, tmp_path):
    append(live_file(tmp_path), training_row(1050, 9.0, loss_spikes=2, mfu=0.121))
    watch.poll()
    text = drawn(watch, 80, force_terminal=True, color_system="standard")
    assert "\x1b[1;33m2 loss spikes" in text
    assert "MFU 12%" in text


def test_a_committed_step_that_is_earlier_is_said_to_be(watch, tmp_path):
    append(live_file(tmp_path), training_row(1075, 7.0))
    watch.poll()
    text = drawn(watch, 60)
    assert "7.0000*" in text
    assert "* of the nearest earlier step" in text


def test_a_run_that_was_never_committed_is_said_to_be_none(tmp_path):
    append(live_file(tmp_path), training_row(50, 7.0))
    watch = Watch(tmp_path)
    watch.poll()
    assert "no committed run of this condition and seed" in drawn(watch, 60)


def test_instances_without_figures_have_a_line_and_the_run_one(watch, tmp_path):
    bar = Progress("evaluate baseline/seed_1337/step_500 hellaswag", 310, 1000, "item", "", 9.0)
    evaluate = RunningInstance("evaluate@baseline-1337-500", 4.0, bar, 9.0)
    drive(tmp_path, RunningInstance("pretrain@baseline-1337", 21.0, None, None), evaluate)
    watch.poll()
    lines = drawn(watch, 100).splitlines()
    assert "0:21" in lines[0]
    assert lines[-2].startswith("evaluate@baseline-1337-500")
    assert "310 of 1,000 item  hellaswag" in lines[-2]
    assert lines[-1] == "12 of 44 instances done, 0:37, about 48 s left"


@pytest.mark.parametrize("height", [5, 12, 20, 40])
def test_it_is_no_higher_than_the_terminal(tmp_path, height):
    for number in range(8):
        append(live_file(tmp_path, condition=f"c{number}"), training_row(50, 7.0))
    watch = Watch(tmp_path)
    watch.poll()
    lines = drawn(watch, 80, height).splitlines()
    assert len(lines) < height
    shown = sum("seed_1337" in line for line in lines)
    assert shown == 8 or lines[-1] == f"and {8 - shown} more"


def test_nothing_runs_is_one_line(tmp_path):
    watch = Watch(tmp_path)
    watch.poll()
    assert drawn(watch, 80) == "Nothing runs here; waiting, Ctrl-C ends.\n"


def test_an_ended_run_leaves_one_line(watch, tmp_path):
    live_file(tmp_path).unlink()
    [run] = watch.poll()
    assert ended_line(run).plain == (
        "ended    pretrain baseline/seed_1337  step 1,000 of 3,200,"
        " loss 7.0100 (committed 7.0000, +0.0100), bits per byte 3.5050,"
        " validation loss 7.2500 (committed 7.3000, -0.0500), val. bits per byte 3.6250"
    )


def test_a_sparkline_has_the_curve_s_shape():
    [line] = sparkline({1: 3.0, 2: 2.0, 3: 1.0}, 4, 4)
    assert line[1:4] == "█▅▁"
    high, low = sparkline({1: 3.0, 2: 2.0, 3: 1.0}, 4, 4, height=2)
    assert (high[1:], low[1:]) == ("█▁ ", "██▁")
    assert sparkline({}, 10, 4) == ["    "]
    assert sparkline({1: 2.0}, 4, 4) == [" ▅  "], "one value has no range"


def test_the_first_tenth_flattens_no_sparkline():
    curve = {1: 1000.0, **{step: 8.0 - step / 100 for step in range(10, 101)}}
    assert len(set(sparkline(curve, 100, 40)[0])) > 6


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tools.live.watch", *arguments]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), **more}


def test_once_prints_and_ends(watch, tmp_path):
    done = subprocess.run(
        command("--once"),
        cwd=tmp_path,
        env=environment(COLUMNS="80"),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == drawn(watch, 80)
    empty = subprocess.run(command("--once"), cwd="/", env=environment(), capture_output=True)
    assert (empty.returncode, empty.stdout) == (0, b"Nothing runs here.\n")


def test_without_a_terminal_it_prints_now_and_then_and_ctrl_c_ends_it_well(watch, tmp_path):
    with subprocess.Popen(
        command("--every", "1"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=as_in_a_terminal,
    ) as process:
        said = ""

        def read_until(text: str) -> None:
            nonlocal said
            while text not in said:
                said += process.stdout.readline()

        read_until("tokens/s")
        append(live_file(tmp_path), training_row(1050, 6.5))
        read_until("1,050")
        live_file(tmp_path).unlink()
        read_until("Nothing runs here; waiting")
        assert said.count("\nended    pretrain baseline/seed_1337  step 1,050") == 1
        assert "\x1b" not in said
        assert said.count("loss                 1,000") == 1, "nothing new is not repeated"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_in_a_terminal_ctrl_c_ends_it_well(watch, tmp_path):
    parent, child = pty.openpty()
    process = subprocess.Popen(
        command(),
        cwd=tmp_path,
        env=environment(TERM="xterm", COLUMNS="80"),
        stdout=child,
        stderr=child,
        preexec_fn=as_in_a_terminal,
    )
    os.close(child)
    said, until = b"", time.monotonic() + 20
    while b"tokens/s" not in said and time.monotonic() < until:
        said += os.read(parent, 4096)
    process.send_signal(signal.SIGINT)
    try:
        while chunk := os.read(parent, 4096):
            said += chunk
    except OSError:  # the end of a pseudo-terminal
        pass
    assert process.wait(20) == 0
    assert b"Traceback" not in said
    assert said.rfind(b"\x1b[?25h") >= said.rfind(b"\x1b[?25l"), "the cursor is visible"
    os.close(parent)
