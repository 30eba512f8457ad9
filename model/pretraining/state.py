"""States and checkpoints of pretraining: which files they have, and how a run resumes.

Both are pieces (model/runtime/resumable.py) in the run's scratch folder:
    checkpoints/step_N      a checkpoint, as it will be published
    states/step_N           state.safetensors: weights, moments of AdamW and Muon, random
                            generators; history.json: curves and recent losses. The place in
                            the data follows from the step.
A run resumes from its newest usable state and computes the same bits. With several processes the
first reads and writes; the order of a resume is:

    first process   read the newest state ─▶ broadcast history ─▶ broadcast weights and moments
    others          ──────────────────────▶ receive history   ─▶ receive each tensor in turn
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import PipelineError
from common.files import json_bytes
from common.sections import Section, read_json
from model.network.gpt import GPT
from model.numerics.hardware import machine
from model.pretraining.loop import History, TrainingPoint, ValidationPoint
from model.pretraining.loss_spikes import SpikeDetector
from model.pretraining.optimizer import Optimizers
from model.runtime.distributed import Processes
from model.runtime.resumable import piece, verified_piece
from model.runtime.step_states import States, steps_of

CHECKPOINT = "checkpoints/step_"
_STATE = "states/step_"


class SavedHistory(Section):
    """history.json: the History (model/pretraining/loop.py) of the state's step.

    `recent_losses` (nats per token) and `spikes` are the spike detector's window and count.
    """

    recent_losses: list[float]
    spikes: int
    training: list[TrainingPoint]
    validated: list[ValidationPoint]


class RunStore:
    """Checkpoints and states in the scratch folder of one run.

    `scratch` is the folder in the first process, which alone reads and writes it, and None in the
    others.
    """

    def __init__(
        self,
        scratch: Path | None,
        checkpoint_steps: list[int],
        save_checkpoint: Callable[[Path, int, GPT], None],
        processes: Processes,
        label: str,
    ):
        self._scratch = scratch
        self._checkpoint_steps = checkpoint_steps
        self._save_checkpoint = save_checkpoint
        self._processes = processes
        self._label = label

    def resume(self, model: GPT, optimizer: Optimizers) -> History:
        """Restore model and optimizer in every process; return the state's history.

        The history is empty if there is no usable state.
        """
        history = History()
        if self._scratch is not None:
            history = self._newest(self._scratch, model, optimizer)
        if self._processes.count > 1:
            received = [history]
            dist.broadcast_object_list(received, src=0, device=torch.device("cpu"))
            [history] = received
            # Without a state nothing is sent: all processes drew the same first weights. All have
            # the tensors in the same order, which pairs each broadcast with its receivers.
            if history.step:
                for tensor in _tensors(model, optimizer).values():
                    dist.broadcast(tensor, src=0)
        return history

    def keep_checkpoint(self, step: int, model: GPT) -> None:
        """Write the checkpoint of `step`."""
        if self._scratch is not None:
            piece(
                self._scratch,
                f"{CHECKPOINT}{step}",
                lambda partial: self._save_checkpoint(partial, step, model),
            )

    def keep_state(self, model: GPT, optimizer: Optimizers, history: History) -> None:
        """Write the state of `history.step`, and remove states older than the newest two."""
        if self._scratch is not None:
            self._states(self._scratch, model).keep(
                history.step, lambda partial: _write(partial, model, optimizer, history)
            )

    def _states(self, scratch: Path, model: GPT) -> States:
        return States(scratch, _STATE, machine(model.lm_head.weight.device), self._label)

    def _newest(self, scratch: Path, model: GPT, optimizer: Optimizers) -> History:
        def read(step: int, directory: Path) -> History:
            # A resumed run does not make earlier checkpoints again, so a state is usable only if
            # all of them are whole.
            for checkpoint in self._checkpoint_steps:
                if checkpoint <= step:
                    verified_piece(scratch, f"{CHECKPOINT}{checkpoint}")
            return _read(step, directory, model, optimizer)

        history = self._states(scratch, model).newest(read) or History()
        # The run takes the steps after the state again, and makes their checkpoints again.
        for later in steps_of(scratch, CHECKPOINT):
            if later > history.step:
                shutil.rmtree(scratch / f"{CHECKPOINT}{later}")
        return history


def _write(partial: Path, model: GPT, optimizer: Optimizers, history: History) -> None:
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in _tensors(model, optimizer).items()
    }
    save_file(tensors | _generators(model), partial / "state.safetensors")
    saved = SavedHistory(
        recent_losses=list(history.spikes.recent),
        spikes=history.spikes.count,
        training=history.training,
        validated=history.validated,
    )
    (partial / "history.json").write_bytes(json_bytes(saved.model_dump()))


def _read(step: int, directory: Path, model: GPT, optimizer: Optimizers) -> History:
    """Restore model and optimizer from a state, and return its history.

    Raises PipelineError if the state does not fit; model and optimizer then stay as they are.
    """
    saved = read_json(directory / "history.json", SavedHistory)
    try:
        found = load_file(directory / "state.safetensors")
    except SafetensorError as error:
        raise PipelineError(f"{directory}: not readable as safetensors ({error})") from None
    history = History()
    history.step = step
    history.training, history.validated = saved.training, saved.validated
    history.spikes = SpikeDetector(saved.recent_losses, saved.spikes)
    _restore(found, model, optimizer)
    return history


def _tensors(model: GPT, optimizer: Optimizers) -> dict[str, Tensor]:
    """Return the weights and the optimizers' moments by name: the tensors themselves, not copies.

    Names are `weights.transformer.wte.weight`, `exp_avg.transformer.wte.weight` and so on.
    """
    tensors, moments = {}, optimizer.moments()
    for name, parameter in model.named_parameters():
        tensors[f"weights.{name}"] = parameter.data
        tensors |= {f"{kind}.{name}": tensor for kind, tensor in moments[parameter].items()}
    return tensors


def _restore(found: dict[str, Tensor], model: GPT, optimizer: Optimizers) -> None:
    """Copy `found` into the model, the optimizer and torch's generators, after checking all."""
    expected = _tensors(model, optimizer)
    generators = _generators(model)
    kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in (expected | generators).items()}
    if {name: (tensor.shape, tensor.dtype) for name, tensor in found.items()} != kinds:
        raise PipelineError("state.safetensors: its tensors are not those of this network")
    # Today only the first weights are drawn from the generators. Dropout would draw at each step;
    # it would resume correctly in a run of one process, since only the first process's generators
    # are saved.
    try:
        torch.set_rng_state(found["generator.cpu"])
        if "generator.cuda" in generators:
            torch.cuda.set_rng_state(found["generator.cuda"])
    except RuntimeError as error:
        raise PipelineError(
            f"state.safetensors: not a random generator's state ({error})"
        ) from None
    for name, tensor in expected.items():
        tensor.copy_(found[name])


def _generators(model: GPT) -> dict[str, Tensor]:
    generators = {"generator.cpu": torch.get_rng_state()}
    if model.lm_head.weight.is_cuda:
        generators["generator.cuda"] = torch.cuda.get_rng_state()
    return generators
