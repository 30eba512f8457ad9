"""A run that goes on from its kept state, to the same bits; and states that must not be used."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_objects import checkpoint_config, write_token_split
from tiny_training import NATIVE, NETWORK, ONE_PROCESS, params

from common.errors import PipelineError
from common.files import write_checksums
from model.network.checkpoints import write_checkpoint
from model.network.gpt import GPT
from model.pretraining.loop import History, Training
from model.pretraining.optimizer import make_optimizer
from model.pretraining.state import RunStore
from model.pretraining.training_rows import TrainingRows
from model.pretraining.validation import Validation
from model.runtime import resumable

pytestmark = pytest.mark.slow("trains small networks, kills and resumes them", minutes=0.8)

STEPS = {
    "max_steps": 24,
    "checkpoint_steps": [6, 24],
    "state_every": 4,
    "log_every": 2,
    "validate_every": 6,
}


class Stopped(Exception):
    pass


class Run:
    """A run in the scratch folder `directory`, anew each time it is called; it dies before the
    batch of `stop_at`.
    """

    def __init__(self, folder, directory, **changes):
        documents = [[99, *(token % 50 for token in range(n, n + 12))] for n in range(40)]
        self.splits = write_token_split(
            folder / "tokens", documents, ["text"] * 20 + ["drills"] * 20
        )
        self.directory, self.changes = directory, changes
        self.first_steps: list[int] = []

    def __call__(self, stop_at: int | None = None) -> tuple[GPT, History]:
        model = GPT(NETWORK).initialize(torch.Generator().manual_seed(0))
        rows = TrainingRows(self.splits[0], NETWORK.context, seed=0)
        training = Training(
            model,
            rows,
            Validation(self.splits[1], 20, NETWORK.context, "drills"),
            params(**STEPS, **self.changes),
            NATIVE,
            ONE_PROCESS,
            "r",
        )
        made = training._batch
        steps: list[int] = []

        def batch(step: int) -> torch.Tensor:
            steps.append(step)
            if step == stop_at:
                raise Stopped
            return made(step)

        training._batch = batch
        try:
            history = training.run(store(self.directory))
        finally:
            self.first_steps.append(steps[0] if steps else STEPS["max_steps"])
        return model, history


def store(directory) -> RunStore:
    def save(partial, step, model):
        write_checkpoint(partial, model, checkpoint_config(NETWORK, step=step))

    return RunStore(directory, STEPS["checkpoint_steps"], save, ONE_PROCESS, "r")


@pytest.fixture
def run(tmp_path) -> Run:
    (tmp_path / "scratch").mkdir()
    return Run(tmp_path, tmp_path / "scratch")


@pytest.fixture
def undisturbed(tmp_path) -> tuple:
    scratch = tmp_path / "undisturbed/scratch"
    scratch.mkdir(parents=True)
    return outcome(Run(tmp_path / "other", scratch))


def outcome(run: Run) -> tuple:
    """All bits a run ends with: of its figures, its checkpoints, and its weights."""
    model, history = run()
    figures = history.training, history.validated, history.spikes.count, list(history.spikes.recent)
    files = {
        path.relative_to(run.directory): path.read_bytes()
        for path in sorted(run.directory.glob("checkpoints/*/*"))
    }
    return figures, files, [tensor.numpy().tobytes() for tensor in model.state_dict().values()]


@pytest.mark.parametrize(("stop_at", "first"), [(3, 1), (5, 5), (8, 5), (9, 9), (23, 21)])
def test_a_stopped_run_goes_on_from_its_newest_state_to_the_same_bits(
    run, undisturbed, stop_at, first
):
    with pytest.raises(Stopped):
        run(stop_at)
    assert outcome(run) == undisturbed
    assert run.first_steps == [1, first]


def test_muon_goes_on_to_the_same_bits(tmp_path):
    runs = []
    for name in ("whole", "stopped"):
        (tmp_path / name / "scratch").mkdir(parents=True)
        runs.append(Run(tmp_path / name, tmp_path / name / "scratch", optimizer="muon"))
    whole, stopped = runs
    with pytest.raises(Stopped):
        stopped(11)
    saved = load_file(stopped.directory / "states/step_8/state.safetensors")
    assert saved["momentum_buffer.transformer.h.0.attn.c_attn.weight"].any()
    assert "exp_avg.transformer.h.0.attn.c_attn.weight" not in saved
    assert saved["exp_avg.transformer.wte.weight"].any()
    assert outcome(stopped) == outcome(whole)
    assert stopped.first_steps == [1, 9]


def test_a_state_of_another_optimizer_is_refused(run, capsys):
    with pytest.raises(Stopped):
        run(7)
    model, chosen = GPT(NETWORK), params(**STEPS, optimizer="muon")
    optimizer = make_optimizer(model, chosen, NATIVE.side_by_side)
    assert store(run.directory).resume(model, optimizer).step == 0
    assert "its tensors are not those of this network" in capsys.readouterr().err


def test_a_run_that_is_stopped_again_and_again_ends_with_the_same_bits(run, undisturbed):
    for stop_at in (7, 10, 11, 18):
        with pytest.raises(Stopped):
            run(stop_at)
    assert outcome(run) == undisturbed
    assert run.first_steps == [1, 5, 9, 9, 17]


def test_the_newest_two_states_are_kept(run):
    with pytest.raises(Stopped):
        run(19)
    assert sorted(path.name for path in (run.directory / "states").iterdir()) == [
        "step_12",
        "step_16",
    ]


def flip(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["state.safetensors", "history.json", "work.json", "SHA256SUMS"])
def test_a_damaged_state_is_named_and_the_one_before_is_used(run, undisturbed, capsys, file):
    with pytest.raises(Stopped):
        run(19)
    flip(run.directory / "states/step_16" / file)
    assert outcome(run) == undisturbed
    assert run.first_steps == [1, 13]
    said = capsys.readouterr().err
    assert "warning: r: step_16 is not used: " in said
    assert "r: resumes from step 12" in said


def test_a_half_written_state_is_as_good_as_none(run, undisturbed):
    """What a kill inside of a write leaves: a temporary sibling."""
    with pytest.raises(Stopped):
        run(7)
    (run.directory / "states/step_4").rename(run.directory / "states/.step_4.partial")
    assert outcome(run) == undisturbed
    assert run.first_steps == [1, 1]


def test_a_state_of_other_work_is_refused(run, undisturbed, tmp_path, capsys):
    (tmp_path / "foreign").mkdir()
    foreign = Run(tmp_path / "another", tmp_path / "foreign")
    with pytest.raises(Stopped):
        foreign(7)
    shutil.copytree(tmp_path / "foreign", run.directory, dirs_exist_ok=True)
    assert outcome(run) == undisturbed
    assert run.first_steps == [1]
    assert "step_4 is not used: " in (said := capsys.readouterr().err)
    assert "belongs to other work" in said


def test_a_state_under_another_steps_name_is_refused(run, undisturbed, capsys):
    with pytest.raises(Stopped):
        run(7)
    (run.directory / "states/step_4").rename(run.directory / "states/step_5")
    assert outcome(run) == undisturbed
    assert "step_5 is not used: " in capsys.readouterr().err


def test_a_state_with_the_checkpoint_of_other_work_is_refused(run, undisturbed, tmp_path, capsys):
    (tmp_path / "foreign").mkdir()
    for each in (run, Run(tmp_path / "another", tmp_path / "foreign")):
        with pytest.raises(Stopped):
            each(9)
    shutil.rmtree(run.directory / "checkpoints/step_6")
    shutil.copytree(tmp_path / "foreign/checkpoints/step_6", run.directory / "checkpoints/step_6")
    assert outcome(run) == undisturbed
    assert run.first_steps == [1, 5]
    assert "step_8 is not used: " in (said := capsys.readouterr().err)
    assert "checkpoints/step_6: belongs to other work" in said


@pytest.mark.parametrize(
    "harm", [lambda path: shutil.rmtree(path), lambda path: flip(path / "model.safetensors")]
)
def test_a_state_whose_checkpoints_are_not_whole_is_refused(run, undisturbed, harm):
    with pytest.raises(Stopped):
        run(11)
    harm(run.directory / "checkpoints/step_6")
    assert outcome(run) == undisturbed
    assert run.first_steps == [1, 5], (
        "the state of step 8 is of no use, that of step 4 needs no checkpoint"
    )


def test_a_checkpoint_after_the_state_is_made_again(run, undisturbed):
    with pytest.raises(Stopped):
        run(8)
    kept = run.directory / "checkpoints/step_6"
    flip(kept / "model.safetensors")
    write_checksums(kept)  # whole, but not what the steps from the state on will make
    assert outcome(run) == undisturbed


def test_a_state_of_another_network_is_refused(run, capsys):
    with pytest.raises(Stopped):
        run(7)
    model = GPT(NETWORK.model_copy(update={"layers": 2}))
    optimizer = make_optimizer(model, params(**STEPS), NATIVE.side_by_side)
    history = store(run.directory).resume(model, optimizer)
    assert history.step == 0
    assert "its tensors are not those of this network" in capsys.readouterr().err


def test_going_on_on_another_kind_of_machine_is_said(run, undisturbed, capsys, monkeypatch):
    with pytest.raises(Stopped):
        run(7)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "ANOTHER")
    run()
    assert " with ANOTHER: the last bits may differ" in capsys.readouterr().err


def test_an_unwritable_state_stops_the_run_and_leaves_the_one_before(run, monkeypatch):
    with pytest.raises(Stopped):
        run(7)
    monkeypatch.setattr(
        "model.pretraining.state.save_file",
        lambda *_: (_ for _ in ()).throw(PipelineError("no space left")),
    )
    with pytest.raises(PipelineError, match="no space"):
        run()
    assert [path.name for path in (run.directory / "states").iterdir()] == ["step_4"]


def test_a_state_that_cannot_be_read_is_no_more_than_a_damaged_one(
    run, undisturbed, capsys, monkeypatch
):
    """What a failing disk says is no PipelineError."""
    with pytest.raises(Stopped):
        run(19)
    whole, failed = resumable.verified_directory, []

    def failing(directory):
        if directory.name == "step_16" and not failed:
            failed.append(directory)
            raise OSError(5, "Input/output error")
        return whole(directory)

    monkeypatch.setattr(resumable, "verified_directory", failing)
    assert outcome(run) == undisturbed
    assert "step_16 is not used: [Errno 5] Input/output error" in capsys.readouterr().err


def test_a_run_on_a_cpu_goes_on_where_a_gpu_has_come_or_gone(run, undisturbed, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(Stopped):
        run(7)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert outcome(run) == undisturbed
    assert run.first_steps == [1, 5]


def test_a_state_of_other_numbers_is_refused(run, capsys):
    with pytest.raises(Stopped):
        run(7)
    directory = run.directory / "states/step_4"
    tensors = load_file(directory / "state.safetensors")
    tensors["weights.transformer.ln_f.bias"] = tensors["weights.transformer.ln_f.bias"].half()
    save_file(tensors, directory / "state.safetensors")
    write_checksums(directory)
    run()
    assert "its tensors are not those of this network" in capsys.readouterr().err
    assert run.first_steps == [1, 1]
