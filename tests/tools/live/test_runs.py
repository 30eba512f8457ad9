"""What trains now, read from the files that training leaves, beside the committed run."""

import json
import os
import shutil

import psutil
import pytest
from live_rows import append, live_file, training_row, validation_row, write_committed

from model.curves import points
from pipeline.driver.state_file import STATE, DriverState, RunningInstance
from tools.live.runs import CHARTS, FIRST_QUIET_SECONDS, QUIET_SECONDS, Watch, committed


class Clock:
    """The time of the newest file, and `quiet` seconds."""

    def __init__(self, path):
        self.path, self.quiet = path, 0.0

    def __call__(self) -> float:
        return os.stat(self.path).st_mtime + self.quiet


def names(runs) -> list[str]:
    return [run.name for run in runs]


def test_rows_that_are_appended_are_read_and_a_torn_line_waits(tmp_path):
    path = live_file(tmp_path)
    append(path, training_row(50, 7.0))
    watch = Watch(tmp_path)
    watch.poll()
    [run] = watch.running
    assert (run.name, run.instance) == ("pretrain baseline/seed_1337", "pretrain@baseline-1337")
    line = json.dumps(training_row(100, 6.5)).encode()
    with open(path, "ab") as file:
        file.write(line[:40])
    watch.poll()
    assert run.step == 50
    with open(path, "ab") as file:
        file.write(line[40:] + b"\n")
    watch.poll()
    assert run.curve("train_loss") == {50: 7.0, 100: 6.5}


def test_a_run_that_goes_on_from_an_earlier_step_replaces_what_came_after_it(tmp_path):
    path = live_file(tmp_path)
    append(path, *(training_row(step, 7.0) for step in (50, 100, 150)), validation_row(150, 7.1))
    watch = Watch(tmp_path)
    watch.poll()
    partial = path.with_name("partial")
    append(partial, training_row(50, 7.0), training_row(100, 6.0))
    os.replace(partial, path)
    watch.poll()
    [run] = watch.running
    assert run.curve("train_loss") == {50: 7.0, 100: 6.0}
    assert run.validation == []


def test_rows_of_an_earlier_step_in_the_same_file_replace_what_came_after_it(tmp_path):
    rows = [training_row(50, 7.0), training_row(100, 6.0), validation_row(100, 6.1)]
    append(live_file(tmp_path), *rows, training_row(50, 5.0))
    watch = Watch(tmp_path)
    watch.poll()
    [run] = watch.running
    assert (run.curve("train_loss"), run.validation) == ({50: 5.0}, [])


def test_training_and_validation_at_the_same_step_are_both_kept(tmp_path):
    append(live_file(tmp_path), training_row(800, 5.5), validation_row(800, 5.6))
    watch = Watch(tmp_path)
    watch.poll()
    [run] = watch.running
    assert [(each.label, each.value) for each in run.compared()] == [
        ("loss", 5.5),
        ("bits per byte", 2.75),
        ("validation loss", 5.6),
        ("val. bits per byte", 2.8),
    ]


def test_a_vanished_file_is_a_run_that_has_ended(tmp_path):
    path = live_file(tmp_path)
    append(path, training_row(50, 7.0))
    watch = Watch(tmp_path)
    assert watch.poll() == []
    append(path, training_row(3200, 4.0), validation_row(3200, 4.1))
    shutil.rmtree(path.parents[1])
    [run] = watch.poll()
    assert run.has_ended
    assert run.step == 3200, "what was written before the end is read"
    assert watch.running == watch.stopped == watch.poll() == []
    append(path, training_row(50, 8.0))
    watch.poll()
    assert [run.step for run in watch.running] == [50], "the same run again"


def test_several_runs_of_two_stages_at_once(tmp_path):
    append(live_file(tmp_path), training_row(50, 7.0))
    append(live_file(tmp_path, condition="mul_tokens"), training_row(100, 7.0))
    row = {"kind": "training", "run": "sft", "step": 10, "steps": 900, "train_loss": 2.5}
    append(live_file(tmp_path, "sft"), row)
    watch = Watch(tmp_path)
    watch.poll()
    assert names(watch.running) == [
        "pretrain baseline/seed_1337",
        "pretrain mul_tokens/seed_1337",
        "sft baseline/seed_1337",
    ]


def test_the_committed_run_is_compared_at_the_same_step_or_the_nearest_earlier_one(tmp_path):
    write_committed(tmp_path, "loss", {"train": {50: 7.5, 100: 7.0, 200: 6.0}})
    append(live_file(tmp_path), training_row(50, 7.0), training_row(100, 6.5))
    watch = Watch(tmp_path)
    watch.poll()
    [run] = watch.running
    loss, bits = run.compared()
    assert (loss.step, loss.committed_step, loss.committed) == (100, 100, 7.0)
    assert loss.difference == -0.5
    assert (bits.committed, bits.difference) == (None, None), "no such chart"
    append(live_file(tmp_path), training_row(150, 6.25))
    watch.poll()
    loss = run.compared()[0]
    assert (loss.step, loss.committed_step, loss.committed) == (150, 100, 7.0)


def test_before_the_committed_run_s_first_step_there_is_nothing_to_compare(tmp_path):
    write_committed(tmp_path, "loss", {"train": {100: 7.0}})
    append(live_file(tmp_path), training_row(50, 7.0))
    watch = Watch(tmp_path)
    watch.poll()
    assert watch.running[0].compared()[0].committed is None


def test_another_condition_or_seed_is_not_the_committed_run(tmp_path):
    write_committed(tmp_path, "loss", {"train": {50: 7.5}})
    assert committed(tmp_path, "pretrain", "baseline", 1337) == {"train_loss": {50: 7.5}}
    assert committed(tmp_path, "pretrain", "baseline", 133) == {}
    assert committed(tmp_path, "pretrain", "mul_tokens", 1337) == {}
    assert committed(tmp_path, "sft", "baseline", 1337) == {}


def test_the_stage_s_own_table_comes_before_plots(tmp_path):
    write_committed(tmp_path, "loss", {"train": {50: 7.5}, "val": {50: 7.6}})
    folder = tmp_path / "losses/baseline/seed_1337"
    folder.mkdir(parents=True)
    (folder / "training.csv").write_text("step,train_loss\n50,7.25\n")
    found = committed(tmp_path, "pretrain", "baseline", 1337)
    assert found == {"train_loss": {50: 7.25}, "val_loss": {50: 7.6}}


def test_the_figures_are_those_that_the_curves_are_made_of():
    read = {key: place for columns in points._COLUMNS.values() for key, place in columns.items()}
    assert CHARTS["pretrain"] == read


def test_a_file_that_no_longer_grows_is_a_run_that_something_has_stopped(tmp_path):
    path = live_file(tmp_path)
    append(path, training_row(50, 7.0), training_row(100, 7.0))
    clock = Clock(path)
    watch = Watch(tmp_path, clock)
    watch.poll()
    assert (len(watch.running), len(watch.stopped)) == (1, 0)
    clock.quiet = QUIET_SECONDS + 1
    watch.poll()
    assert (len(watch.running), len(watch.stopped)) == (0, 1)


# 150 seconds from row to row, known from the first one on.
SLOW = [
    training_row(50, 7.0, seconds_left=3150 * 3.0),
    training_row(100, 7.0, seconds_left=3100 * 3.0),
]


@pytest.mark.parametrize(
    ("rows", "patience"),
    [
        (SLOW, 1500),
        (SLOW[:1], 1500),
        ([validation_row(0, 9.0)], FIRST_QUIET_SECONDS),
        ([training_row(50, 7.0, seconds_left=None)], FIRST_QUIET_SECONDS),
    ],
    ids=["slow steps", "one slow row", "no training row", "no time left"],
)
def test_a_run_is_given_time_by_the_interval_of_its_rows(tmp_path, rows, patience):
    path = live_file(tmp_path)
    append(path, *rows)
    clock = Clock(path)
    watch = Watch(tmp_path, clock)
    clock.quiet = patience - 1
    watch.poll()
    assert len(watch.running) == 1
    clock.quiet = patience + 1
    watch.poll()
    assert len(watch.stopped) == 1


def test_the_validation_after_the_last_step_is_given_time(tmp_path):
    path = live_file(tmp_path)
    slow = {"seconds_left": 50 * 3.0}
    append(path, training_row(3150, 7.0, **slow), training_row(3200, 7.0, seconds_left=0.0))
    clock = Clock(path)
    watch = Watch(tmp_path, clock)
    clock.quiet = 1400
    watch.poll()
    assert len(watch.running) == 1


def test_what_the_driver_runs_is_running_however_quiet_and_its_others_are_listed(tmp_path):
    path = live_file(tmp_path)
    append(path, training_row(50, 7.0))
    clock = Clock(path)
    clock.quiet = 10 * QUIET_SECONDS
    watch = Watch(tmp_path, clock)
    running = [
        RunningInstance("pretrain@baseline-1337", 21.0, None, None),
        RunningInstance("evaluate@baseline-1337-500", 4.0, None, None),
    ]
    state = DriverState(44, 12, 0, False, 37.0, 48.0, tuple(running))
    own = psutil.Process()
    content = {"process": own.pid, "began": own.create_time(), "state": state}
    (tmp_path / STATE).parent.mkdir(parents=True)
    (tmp_path / STATE).write_text(json.dumps(content))
    watch.poll()
    assert names(watch.running) == ["pretrain baseline/seed_1337"]
    assert names(watch.others) == ["evaluate@baseline-1337-500"]


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "other", "step": 50, "steps": 100},
        {"kind": "training", "step": "50", "steps": 100},
        {"kind": "training", "step": 50},
        {},
    ],
)
def test_a_row_of_another_form_is_left_out(tmp_path, row):
    append(live_file(tmp_path), row)
    watch = Watch(tmp_path)
    watch.poll()
    assert watch.running == []
