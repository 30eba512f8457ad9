"""Figures that fine-tuning appends while it runs: no step comes twice, and the curve stays."""

import json

import pytest
from tiny_fine_tuning import PARAMS, Project, new_project

from model.post_training import trainer
from model.post_training.trainer import collate
from model.runtime.live_figures import NAME

SHORT = PARAMS.model_copy(update={"max_steps": 8, "log_every": 2, "state_every": 4})


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def project(tmp_path_factory, tokenizer) -> Project:
    return new_project(tmp_path_factory.mktemp("gpt2"), tokenizer)


def test_fine_tuning_goes_on_after_a_kill_and_repeats_no_step(
    project, tmp_path, monkeypatch, capsys
):
    _, undisturbed = project.train(tmp_path / "undisturbed", SHORT)
    capsys.readouterr()

    made = []

    def stopping(batch, padding):
        made.append(batch)
        if len(made) == 8:  # the Trainer reads one batch ahead
            raise Stopped
        return collate(batch, padding)

    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(trainer, "collate", stopping)
        project.train(tmp_path / "work", SHORT)
    path = tmp_path / "work" / NAME
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [2, 4, 6]
    _, curve = project.train(tmp_path / "work", SHORT)
    assert curve == undisturbed
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["step"], row["train_loss"]) for row in rows] == curve
    for row in rows:
        assert (row["kind"], row["run"], row["steps"]) == ("training", "sft x", 8)
        assert row["tokens_per_second"] > 0
        assert row["gradient_norm"] > 0
    lines = [line for line in capsys.readouterr().err.splitlines() if " step 8 of 8, " in line]
    assert len(lines) == 1
    assert lines[0].startswith("sft x: step 8 of 8, loss ")
    assert "tokens/s, learning rate " in lines[0]
