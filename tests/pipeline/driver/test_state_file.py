"""The file that says what a driver runs now."""

import io
import json
import os
import signal
import subprocess
import sys

import pytest

from pipeline.driver.place import Job, Progress
from pipeline.driver.state_file import EVERY, STATE, StateFileView, read_state
from pipeline.driver.view import View

BAR = Progress("pretrain baseline/seed_1", 145, 3200, "step", "loss 4.1", 50.0)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def view(tmp_path, clock) -> StateFileView:
    (tmp_path / STATE).parent.mkdir(parents=True)
    return StateFileView(View(io.StringIO(), clock=clock), tmp_path / STATE, clock)


def job(name: str) -> Job:
    return Job(name, (), 1)


def test_a_reader_sees_what_runs_and_how_long_it_will_take(tmp_path, view, clock):
    view.planned(["a", "b", "c", "d"], {"a": 10.0, "b": 60.0, "c": 10.0, "d": 10.0}, slots=2)
    view.started(job("a"))
    view.started(job("b"))
    clock.now += 10
    view.finished("a", 10.0, "")
    view.restored("c")
    view.progressed({"b": BAR})
    state = read_state(tmp_path)
    assert (state.total, state.ended, state.failed, state.stopping) == (4, 2, 0, False)
    assert state.seconds == 10
    assert state.seconds_left > 0
    [running] = state.running
    assert (running.name, running.seconds, running.bar) == ("b", 10, BAR)
    view.stopping(signal.SIGINT)
    view.failed("b", 1, "")
    clock.now += EVERY
    view.progressed({})
    state = read_state(tmp_path)
    assert (state.failed, state.stopping, state.running) == (1, True, ())
    view.closed()
    assert read_state(tmp_path) is None
    assert os.listdir((tmp_path / STATE).parent) == []


def test_it_is_written_once_a_second_and_the_view_below_hears_everything(tmp_path, view, clock):
    view.planned(["a"], {})
    view.started(job("a"))
    view.progressed({})
    before = (tmp_path / STATE).read_bytes()
    clock.now += EVERY / 2
    view.progressed({"a": BAR})
    assert (tmp_path / STATE).read_bytes() == before
    clock.now += EVERY / 2
    view.progressed({"a": BAR})
    assert read_state(tmp_path).running[0].bar == BAR
    assert view._view._out.getvalue() == "start    a\n"


def test_a_killed_driver_s_file_is_of_no_run(tmp_path, view):
    view.planned(["a"], {})
    view.progressed({})
    assert read_state(tmp_path) is not None
    content = json.loads((tmp_path / STATE).read_text())
    # Another process may have its number by now.
    other = {**content, "began": content["began"] - 1}
    (tmp_path / STATE).write_text(json.dumps(other))
    assert read_state(tmp_path) is None
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / STATE).write_text(json.dumps({**content, "process": ended.pid}))
    assert read_state(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"process": 1', '{"process": "x", "began": 0}'])
def test_a_damaged_file_is_of_no_run(tmp_path, view, text):
    (tmp_path / STATE).write_text(text)
    assert read_state(tmp_path) is None


def test_a_run_goes_on_where_the_file_cannot_be_written(tmp_path, clock):
    out = io.StringIO()
    view = StateFileView(View(out, clock=clock), tmp_path / "missing/state.json", clock)
    view.planned(["a"], {})
    view.started(job("a"))
    view.progressed({})
    view.finished("a", 1.0, "")
    view.closed()
    assert out.getvalue().endswith("1 instance run; 0.0 s\n")
