"""States of killed runs that somebody has changed, checksums and all: used whole, or named and not
used at all.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mutations import changed_bytes, changed_value, fuzz, within
from safetensors.torch import load_file, save_file
from small_objects import checkpoint_config
from tiny_training import NATIVE, NETWORK, ONE_PROCESS, params

from common.files import write_checksums
from model.network.checkpoints import write_checkpoint
from model.network.gpt import GPT
from model.pretraining.loop import History, TrainingPoint, ValidationPoint
from model.pretraining.optimizer import make_optimizer
from model.pretraining.state import RunStore

STATE = "states/step_4"


@pytest.fixture(autouse=True)
def bounded():
    state = torch.get_rng_state()
    with within(seconds=1200, gigabytes=3):
        yield
    torch.set_rng_state(state)


def parts() -> tuple[GPT, torch.optim.Optimizer]:
    model = GPT(NETWORK).initialize(torch.Generator().manual_seed(0))
    return model, make_optimizer(model, params(), NATIVE.side_by_side)


def store(directory: Path) -> RunStore:
    def save(partial: Path, step: int, model: GPT) -> None:
        write_checkpoint(partial, model, checkpoint_config(NETWORK, step=step))

    return RunStore(directory, [3, 9], save, ONE_PROCESS, "r")


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """The scratch folder of a run at step 4, with a checkpoint of step 3."""
    directory = tmp_path_factory.mktemp("states") / "work"
    directory.mkdir()
    model, optimizer = parts()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    history = History()
    history.step = 4
    history.training = [TrainingPoint(*range(len(TrainingPoint._fields)))]
    history.validated = [ValidationPoint(*range(len(ValidationPoint._fields)))]
    store(directory).keep_checkpoint(3, model)
    store(directory).keep_state(model, optimizer, history)
    return directory


def resumed(directory: Path) -> tuple[History, bool]:
    """Return the history that a run goes on from, and whether its weights are still those that it
    began with.
    """
    model, optimizer = parts()
    first = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    history = store(directory).resume(model, optimizer)
    return history, all(
        torch.equal(tensor, first[name]) for name, tensor in model.state_dict().items()
    )


def copied(kept: Path, tmp_path: Path) -> Path:
    shutil.rmtree(tmp_path / "work", ignore_errors=True)
    return Path(shutil.copytree(kept, tmp_path / "work"))


def test_a_state_as_it_was_kept_is_used(kept, tmp_path):
    history, untouched = resumed(copied(kept, tmp_path))
    assert (history.step, untouched) == (4, False)


@fuzz(40)
@given(data=st.data())
def test_a_changed_state_is_used_whole_or_not_at_all(kept, tmp_path, data):
    directory = copied(kept, tmp_path)
    path = directory / data.draw(
        st.sampled_from(
            [
                f"{STATE}/{name}"
                for name in ("state.safetensors", "history.json", "work.json", "SHA256SUMS")
            ]
        )
    )
    content = path.read_bytes()
    if path.suffix == ".json" and data.draw(st.booleans()):
        path.write_text(json.dumps(data.draw(changed_value(json.loads(content)))))
    else:
        path.write_bytes(data.draw(changed_bytes(content[:3000])) + content[3000:])
    if path.name != "SHA256SUMS":
        write_checksums(directory / STATE)
    history, untouched = resumed(directory)
    assert (history.step, untouched) in ((4, False), (0, True))


@pytest.mark.parametrize(
    "fault",
    ["generator", "rows", "type", "shape", "missing", "more", "piece", "run", "checkpoint"],
)
def test_a_state_that_is_refused_leaves_nothing_behind(kept, tmp_path, capsys, fault):
    directory = copied(kept, tmp_path)
    tensors = load_file(directory / STATE / "state.safetensors")
    history, work = (
        json.loads((directory / STATE / name).read_text()) for name in ("history.json", "work.json")
    )
    name = next(name for name in tensors if name.startswith("weights."))
    if fault == "generator":
        tensors["generator.cpu"] = torch.full_like(tensors["generator.cpu"], 255)
    elif fault == "rows":
        history["training"] = [[1.0]]
    elif fault == "type":
        tensors[name] = tensors[name].double()
    elif fault == "shape":
        tensors[name] = tensors[name][:1].contiguous()
    elif fault == "missing":
        del tensors[name]
    elif fault == "more":
        tensors["more"] = torch.zeros(1)
    elif fault in work:
        work[fault] = {"piece": "states/step_5", "run": "others"}[fault]
    else:
        shutil.rmtree(directory / "checkpoints/step_3")
    save_file(tensors, directory / STATE / "state.safetensors")
    (directory / STATE / "history.json").write_text(json.dumps(history))
    (directory / STATE / "work.json").write_text(json.dumps(work))
    write_checksums(directory / STATE)
    found, untouched = resumed(directory)
    assert (found.step, untouched) == (0, True)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "is not used" in line]
    assert "step_4" in line
