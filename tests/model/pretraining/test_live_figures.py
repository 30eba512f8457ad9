"""Figures that a network appends while it trains: outputs stay the same, no step comes twice."""

import csv
import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from small_objects import checkpoint_config, write_token_split
from tiny_training import NATIVE, NETWORK, ONE_PROCESS, params

from model.network.checkpoints import write_checkpoint
from model.network.gpt import GPT
from model.pretraining.loop import Training
from model.pretraining.state import RunStore
from model.pretraining.training_rows import TrainingRows
from model.pretraining.validation import Validation
from model.runtime.live_figures import NAME, LiveFigures
from stages.pretrain import csv_bytes

pytestmark = pytest.mark.slow("trains small networks, kills and resumes them", minutes=0.2)

PARAMS = {"max_steps": 12, "checkpoint_steps": [12], "state_every": 4, "validate_every": 6}


class Stopped(Exception):
    pass


def train(folder, live: bool, stop_at: int | None = None) -> bytes:
    """Train from the newest state in `folder`; return all bytes that the run ends with."""
    documents = [[99, *(token % 50 for token in range(n, n + 12))] for n in range(40)]
    splits = write_token_split(folder / "tokens", documents, ["text"] * 20 + ["drills"] * 20)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    training = Training(
        GPT(NETWORK).initialize(torch.Generator().manual_seed(0)),
        TrainingRows(splits[0], NETWORK.context, seed=0),
        Validation(splits[1], 20, NETWORK.context, "drills"),
        params(**PARAMS),
        NATIVE,
        ONE_PROCESS,
        "pretrain a/seed_1",
    )
    made = training._batch

    def batch(step: int) -> torch.Tensor:
        if step == stop_at:
            raise Stopped
        return made(step)

    training._batch = batch

    def save(partial, step, model):
        write_checkpoint(partial, model, checkpoint_config(NETWORK, step=step))

    store = RunStore(scratch, [12], save, ONE_PROCESS, "pretrain a/seed_1")
    history = training.run(store, LiveFigures(scratch, "pretrain a/seed_1", 12) if live else None)
    files = sorted(scratch.glob("checkpoints/*/*"))
    return b"".join(
        [
            csv_bytes(history.training),
            csv_bytes(history.validated),
            csv_bytes(history.documents),
            *(path.read_bytes() for path in files),
        ]
    )


def rows(folder, kind: str) -> list[dict]:
    lines = (folder / "scratch" / NAME).read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.fixture(scope="module")
def without(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("without")
    output = train(folder, live=False)
    assert not (folder / "scratch" / NAME).exists()
    return output


class Run(NamedTuple):
    folder: Path
    output: bytes
    printed: list[str]


@pytest.fixture(scope="module")
def followed(tmp_path_factory) -> Run:
    """A run with live figures, whose stderr is kept."""
    folder = tmp_path_factory.mktemp("followed")
    with redirect_stderr(io.StringIO()) as printed:
        output = train(folder, live=True)
    return Run(folder, output, printed.getvalue().splitlines())


def test_a_run_with_live_figures_has_the_same_outputs(followed, without):
    assert followed.output == without


def test_rows_have_the_figures_of_the_outputs(followed, without):
    assert [row["step"] for row in rows(followed.folder, "validation")] == [0, 6, 12]
    training = rows(followed.folder, "training")
    lines = without.decode(errors="replace").split("\n")[: 1 + len(training)]
    table = csv.DictReader(lines)
    for row, written in zip(training, table, strict=True):
        assert {name: str(row[name]) for name in written} == written
        assert (row["run"], row["steps"], row["loss_spikes"]) == ("pretrain a/seed_1", 12, 0)
        assert row["tokens_per_second"] > 0
        assert row["mfu"] > 0
        assert row["seconds_left"] >= 0
    assert training[-1]["seconds_left"] == 0


def test_where_output_is_kept_each_row_is_a_line(followed):
    first, second, *_ = followed.printed
    assert len(followed.printed) == 6 + 3
    assert first.startswith("pretrain a/seed_1: step 0 of 12, validation loss ")
    assert second.startswith("pretrain a/seed_1: step 2 of 12, loss ")
    for words in (" tokens/s, MFU ", " bits per byte, learning rate ", " s left"):
        assert words in second


def test_a_run_that_goes_on_after_a_kill_repeats_no_step(tmp_path, without):
    with pytest.raises(Stopped):
        train(tmp_path, live=True, stop_at=11)
    assert train(tmp_path, live=True) == without
    assert [row["step"] for row in rows(tmp_path, "training")] == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in rows(tmp_path, "validation")] == [0, 6, 12]


def test_without_the_cut_steps_come_twice(tmp_path, monkeypatch):
    """The fault that the cut prevents."""
    with pytest.raises(Stopped):
        train(tmp_path, live=True, stop_at=11)
    monkeypatch.setattr(LiveFigures, "go_on", lambda self, step: None)
    train(tmp_path, live=True)
    assert [row["step"] for row in rows(tmp_path, "training")] == [2, 4, 6, 8, 10, 10, 12]
