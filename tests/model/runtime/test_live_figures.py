"""live.jsonl: rows are on disk when `append` returns; a run that goes on repeats no step."""

import io
import json
import os
import sys
from pathlib import Path

import pytest

from model.runtime.live_figures import NAME, LiveFigures, duration, line


def steps(path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def appended(scratch, *numbers: int) -> LiveFigures:
    live = LiveFigures(scratch, "pretrain a/seed_1", 40)
    live.go_on(0)
    for step in numbers:
        live.append("training", step, train_loss=1.5)
    return live


def test_a_row_can_be_read_as_soon_as_it_is_appended(tmp_path):
    appended(tmp_path, 10)
    assert json.loads((tmp_path / NAME).read_text()) == {
        "kind": "training",
        "run": "pretrain a/seed_1",
        "step": 10,
        "steps": 40,
        "train_loss": 1.5,
    }


def test_a_process_without_the_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    live = LiveFigures(None, "pretrain a/seed_1", 40)
    live.go_on(0)
    live.append("training", 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("step", "kept"), [(0, []), (20, [10, 20]), (25, [10, 20])])
def test_rows_after_the_step_are_cut_off(tmp_path, step, kept):
    appended(tmp_path, 10, 20, 30)
    LiveFigures(tmp_path, "pretrain a/seed_1", 40).go_on(step)
    assert steps(tmp_path / NAME) == kept


@pytest.mark.parametrize("torn", ['{"step": 3', '{"step": 30}', "\0\0\0\n", "{}\n"])
def test_a_torn_last_line_is_cut_off(tmp_path, torn):
    live = appended(tmp_path, 10, 20)
    with open(tmp_path / NAME, "a") as file:
        file.write(torn)
    live.go_on(40)
    live.append("training", 30)
    assert steps(tmp_path / NAME) == [10, 20, 30]


def test_a_figure_that_is_no_number_is_refused(tmp_path):
    live = appended(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        live.append("training", 10, train_loss=float("nan"))


@pytest.mark.parametrize(
    ("terminals", "out", "err"),
    [((), 0, 1), (("stderr",), 1, 0), (("stdout",), 0, 1), (("stdout", "stderr"), 0, 0)],
)
def test_a_row_is_a_line_of_the_output_that_is_kept(
    tmp_path, capsys, monkeypatch, terminals, out, err
):
    """In a terminal there is a progress bar in its place."""
    for name in terminals:
        monkeypatch.setattr(getattr(sys, name), "isatty", lambda: True)
    appended(tmp_path, 10)
    printed = capsys.readouterr()
    assert (printed.out.count("\n"), printed.err.count("\n")) == (out, err)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_neither_a_full_disk_nor_a_closed_log_ends_training(tmp_path, monkeypatch):
    live = appended(tmp_path)
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).symlink_to("/dev/full")
    reading, writing = os.pipe()
    os.close(reading)
    # Unbuffered, so that nothing is left for Python to write when it closes the stream.
    log = io.TextIOWrapper(os.fdopen(writing, "wb", buffering=0), write_through=True)
    monkeypatch.setattr(sys, "stderr", log)
    live.append("training", 10, train_loss=1.5)


def test_a_process_without_streams_trains(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    appended(tmp_path, 10)
    assert steps(tmp_path / NAME) == [10]


def test_a_line_has_the_figures_that_are_known():
    row = {"run": "pretrain a/seed_1", "step": 50, "steps": 3200}
    trained = {"train_loss": 4.12341, "train_bits_per_byte": 2.2, "learning_rate": 1.5e-3}
    speed = {"tokens_per_second": 12345.6, "mfu": 0.314, "seconds_left": 160.2}
    assert line({**row, **trained, **speed, "gradient_norm": 1.0}) == (
        "pretrain a/seed_1: step 50 of 3200, loss 4.1234, 12,346 tokens/s, MFU 31%, "
        "2.2000 bits per byte, learning rate 1.50e-03, 2 min 40 s left"
    )
    assert line({**row, **trained, **speed, "mfu": None}).count("MFU") == 0
    validated = {"val_loss": 4.5, "val_bits_per_byte": 2.5, "val_drill_bits_per_byte": None}
    assert line({**row, **validated}) == (
        "pretrain a/seed_1: step 50 of 3200, validation loss 4.5000, 2.5000 bits per byte"
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (3599.6, "1 h 00 min"), (3780, "1 h 03 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words
