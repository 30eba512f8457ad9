"""Fine-tuning: what is learned, how a run goes on, and what stops it. A network of two layers,
conversations of one word.
"""

from pathlib import Path

import pytest
import torch
from tiny_fine_tuning import ANSWERS, NATIVE, PARAMS, Project, new_project
from transformers import TrainingArguments

from common.errors import PipelineError
from model.hugging_face.loading import load_hugging_face_model
from model.numerics.setting import Numerics, set_numerics
from model.numerics.side_by_side import SideBySide
from model.params.sft import SftParams
from model.post_training import trainer
from model.post_training.chat_format import Row
from model.post_training.trainer import GroupTrainer, collate, trainer_states
from model.runtime import resumable
from model.runtime.live_figures import LiveFigures


@pytest.fixture(scope="module")
def project(tmp_path_factory, tokenizer) -> Project:
    return new_project(tmp_path_factory.mktemp("gpt2"), tokenizer)


@pytest.fixture(scope="module")
def undisturbed(project, tmp_path_factory):
    return project.train(tmp_path_factory.mktemp("undisturbed") / "work")


def same(found, expected) -> bool:
    model, curve = found
    others = dict(expected[0].named_parameters())
    return curve == expected[1] and all(
        torch.equal(parameter, others[name]) for name, parameter in model.named_parameters()
    )


def test_the_model_learns_its_answers_and_where_they_end(project, undisturbed):
    model, curve = undisturbed
    assert project.answers(model) == [(f" {answer}", True) for answer in ANSWERS.values()]
    assert [point.step for point in curve] == [10, 20, 30, 40, 50, 60]
    assert curve[-1].train_loss < curve[0].train_loss / 4


def test_a_mask_by_id_teaches_nobody_to_stop(project, tmp_path, monkeypatch):
    """The fault: padding and end of text have one id, and who leaves the padding out by it leaves
    both out.
    """

    def by_id(rows: list[Row], padding: int):
        batch = collate(rows, padding)
        batch["labels"][batch["input_ids"] == padding] = -100
        return batch

    monkeypatch.setattr(trainer, "collate", by_id)
    model, _ = project.train(tmp_path / "work")
    assert not any(stopped for _, stopped in project.answers(model))


def test_the_loss_is_that_of_the_answers_alone(project, tmp_path):
    model = load_hugging_face_model(project.directory)
    batch = collate(project.rows[:4], model.config.eos_token_id)
    with torch.no_grad():
        log_p = model(
            batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits.log_softmax(-1)
    learned = torch.tensor(
        [
            row.is_learned + [False] * (batch["labels"].shape[1] - len(row.ids))
            for row in project.rows[:4]
        ]
    )
    places = learned.nonzero().tolist()
    by_hand = -sum(
        log_p[row, place - 1, batch["input_ids"][row, place]] for row, place in places
    ) / len(places)
    params = PARAMS.model_copy(
        update={"max_steps": 1, "log_every": 1, "state_every": 1, "warmup_steps": 0}
    )
    _, [point] = project.train(tmp_path / "work", params, rows=project.rows[:4])
    assert point.train_loss == pytest.approx(by_hand.item(), rel=1e-5)


def test_the_same_seed_gives_the_same_bits_and_another_one_another_order(
    project, tmp_path, undisturbed
):
    assert same(project.train(tmp_path / "work"), undisturbed)
    assert not same(project.train(tmp_path / "other/work", seed=1), undisturbed)


def test_both_conditions_learn_the_same_conversations_in_the_same_order(
    project, tmp_path, monkeypatch
):
    """Rows of other tokens, as another tokenizer makes them, are drawn by place."""

    def order(rows: list[Row]) -> list[int]:
        drawn = []

        def recorded(batch: list[Row], padding: int):
            drawn.extend(
                next(number for number, row in enumerate(rows) if row is each) for each in batch
            )
            return collate(batch, padding)

        monkeypatch.setattr(trainer, "collate", recorded)
        project.train(tmp_path / f"{len(rows[0].ids)}/work", rows=rows)
        return drawn

    longer = [
        Row([*row.ids[:-1], row.ids[-2], row.ids[-1]], [*row.is_learned, True])
        for row in project.rows
    ]
    first = order(project.rows)
    assert len(first) >= PARAMS.max_steps * PARAMS.batch_rows
    assert sorted(first[: len(project.rows)]) == list(range(len(project.rows)))
    assert order(longer) == first


def test_several_gpus_take_no_larger_batch(project, tmp_path, monkeypatch):
    """The Trainer would give each of them batch_rows conversations."""
    monkeypatch.setattr(TrainingArguments, "_setup_devices", torch.device("cpu"), raising=False)
    monkeypatch.setattr(TrainingArguments, "_n_gpu", 4, raising=False)
    arguments = trainer._arguments(PARAMS, 0, tmp_path)
    assert arguments.train_batch_size == PARAMS.batch_rows


def test_an_environment_that_asks_for_another_precision_is_refused(project, tmp_path, monkeypatch):
    """Without the seal, which takes such variables away."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    with pytest.raises(
        PipelineError,
        match=r"^sft x: a step would take 4 conversations in precision 'bf16', params\.yaml asks",
    ):
        project.train(tmp_path / "work")


def test_bfloat16_learns_the_answers_too(project, tmp_path):
    model, curve = project.train(tmp_path / "work", PARAMS.model_copy(update={"dtype": "bfloat16"}))
    assert next(model.parameters()).dtype == torch.float32
    assert curve[-1].train_loss < curve[0].train_loss / 4
    assert [stopped for _, stopped in project.answers(model)] == [True] * len(ANSWERS)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gpu_gives_the_same_bits_twice_and_after_a_kill(project, tmp_path, monkeypatch, dtype):
    params = PARAMS.model_copy(update={"device": "cuda", "dtype": dtype})
    undisturbed = project.train(tmp_path / "a/work", params)
    assert same(project.train(tmp_path / "b/work", params), undisturbed)
    kill(project, tmp_path / "c/work", monkeypatch, 40, True, params)
    assert same(project.train(tmp_path / "c/work", params), undisturbed)


class Killed(Exception):
    pass


def kill(
    project: Project, states: Path, monkeypatch, at: int, sealed: bool, params: SftParams = PARAMS
) -> None:
    """Train until the state of step `at` is written, and stop before or after it is sealed with its
    checksums.
    """
    write = resumable.write_checksums

    def write_checksums(directory: Path) -> None:
        if directory.name == f"checkpoint-{at}":
            if sealed:
                write(directory)
            raise Killed
        write(directory)

    monkeypatch.setattr(resumable, "write_checksums", write_checksums)
    with pytest.raises(Killed):
        project.train(states, params)
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("at", "sealed", "goes_on_from"),
    [(20, True, 20), (40, True, 40), (40, False, 20), (60, True, 60), (20, False, None)],
)
def test_a_killed_run_goes_on_to_the_same_bits(
    project, undisturbed, tmp_path, monkeypatch, capsys, at, sealed, goes_on_from
):
    states = tmp_path / "work"
    kill(project, states, monkeypatch, at, sealed)
    found = trainer_states(states, "cpu", "sft x").newest(lambda step, _: step)
    assert found == goes_on_from
    said = capsys.readouterr().err
    assert (f"warning: sft x: checkpoint-{at} is not used" in said) == (not sealed)
    assert same(project.train(states), undisturbed)


def test_the_newest_two_states_are_kept(project, tmp_path):
    project.train(tmp_path / "work")
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == [
        "checkpoint-40",
        "checkpoint-60",
        "live.jsonl",
    ]


def test_a_damaged_state_is_named_and_the_one_before_is_used(
    project, undisturbed, tmp_path, monkeypatch, capsys
):
    states = tmp_path / "work"
    kill(project, states, monkeypatch, 40, True)
    path = states / "checkpoint-40/optimizer.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert same(project.train(states), undisturbed)
    assert "warning: sft x: checkpoint-40 is not used" in capsys.readouterr().err


def test_a_state_of_other_work_is_named_and_not_used(
    project, undisturbed, tmp_path, monkeypatch, capsys
):
    kill(project, tmp_path / "other", monkeypatch, 40, True)
    (tmp_path / "other").rename(tmp_path / "work")
    assert same(project.train(tmp_path / "work"), undisturbed)
    said = capsys.readouterr().err
    assert "checkpoint-40 is not used" in said
    assert "belongs to other work" in said


def test_a_state_of_another_machine_is_used_and_named(
    project, undisturbed, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(trainer, "machine", lambda _: "an abacus")
    kill(project, tmp_path / "work", monkeypatch, 40, True)
    assert same(project.train(tmp_path / "work"), undisturbed)
    assert "warning: sft x: began on an abacus, resumes on " in capsys.readouterr().err


def test_a_run_that_was_killed_at_its_end_takes_no_step_more(
    project, undisturbed, tmp_path, monkeypatch
):
    params = PARAMS.model_copy(update={"max_steps": 20})
    states = tmp_path / "work"
    expected = project.train(tmp_path / "undisturbed/work", params)
    kill(project, states, monkeypatch, 20, True, params)
    assert same(project.train(states, params), expected)
    assert [path.name for path in states.glob("checkpoint-*")] == ["checkpoint-20"]


def test_a_loss_that_is_not_finite_is_one_line(project, tmp_path):
    with pytest.raises(
        PipelineError,
        match=r"^sft x: the (loss|gradient's norm) is \S+ at step 10; lower sft\.learning_rate",
    ):
        project.train(tmp_path / "work", PARAMS.model_copy(update={"learning_rate": 1e30}))


# Groups of 4, 4 and 2 rows.
GROUPED = PARAMS.model_copy(
    update={"batch_rows": 10, "max_steps": 4, "warmup_steps": 1, "log_every": 1, "state_every": 2}
)


def side_by_side(threads: int) -> Numerics:
    """Groups of rows, with torch's own kernels: portable ones would stay for later tests."""
    set_numerics(NATIVE)
    return Numerics(True, threads, SideBySide(threads))


def test_groups_have_the_loss_and_gradients_of_the_plain_trainer(project, tmp_path):
    rows = [project.rows[place] for place in (0, 3, 1, 2, 3, 3, 0, 1, 2, 0)]
    results = []
    for numerics in (set_numerics(NATIVE), side_by_side(2)):
        model = load_hugging_face_model(project.directory)
        states = trainer_states(tmp_path / "work", "cpu", "sft x")
        live = LiveFigures(None, "sft x", GROUPED.max_steps)
        made = trainer._trainer(model, rows, GROUPED, 0, states, numerics, live)
        batch = collate(rows, model.config.eos_token_id)
        learned = (batch["labels"] != -100).sum()
        loss = made.training_step(model, batch, num_items_in_batch=learned)
        results.append((type(made), loss, [each.grad for each in model.parameters()]))
    (plain, loss, gradients), (grouped, same_loss, same_gradients) = results
    assert issubclass(grouped, GroupTrainer)
    assert not issubclass(plain, GroupTrainer)
    torch.testing.assert_close(same_loss, loss)
    for found, expected in zip(same_gradients, gradients, strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_gradients_of_groups_are_held_than_there_are_threads(
    project, tmp_path, monkeypatch, threads
):
    held, most = [], []
    add = trainer.PairwiseSum.add

    def summed(self, tensors):
        add(self, tensors)
        held.pop()

    def computed(model, ids, labels):
        held.append(ids)
        most.append(len(held))
        return loss(model, ids, labels)

    loss = trainer._summed_loss
    monkeypatch.setattr(trainer.PairwiseSum, "add", summed)
    monkeypatch.setattr(trainer, "_summed_loss", computed)
    once = GROUPED.model_copy(update={"max_steps": 1})
    project.train(tmp_path / "work", once, numerics=side_by_side(threads))
    assert len(most) == 3
    assert max(most) == threads


def test_a_run_in_groups_learns_what_a_plain_run_learns(project, tmp_path):
    """The Trainer counts the learned tokens of the whole batch, by which groups divide."""
    _, plain = project.train(tmp_path / "plain/work", GROUPED)
    _, grouped = project.train(tmp_path / "grouped/work", GROUPED, numerics=side_by_side(2))
    losses = [[point.train_loss for point in curve] for curve in (plain, grouped)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert len(set(losses[0])) == GROUPED.max_steps


def test_a_row_that_cannot_be_computed_stops_the_run(project, tmp_path):
    rows = [*project.rows[:9], Row([0, 10**6, 0], [False, True, True])]
    with pytest.raises(IndexError, match="index out of range"):
        project.train(tmp_path / "work", GROUPED, rows=rows, numerics=side_by_side(2))
