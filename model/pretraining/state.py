"""What of a training run outlives a kill: its checkpoints so far, and the state from which it goes on to the same bits.

In the run's scratch folder (model/runtime/resumable.py), which is named by a fingerprint of all that the stage depends on:
    checkpoints/step_N      as the checkpoint will be published
    states/step_N           state.safetensors: weights, both moments of AdamW, random generators; history.json: the rest
                            that later steps depend on. Where in the data the run is follows from the step.
All are checksummed directories: whole or not there. The newest two states are kept, so that one that is damaged costs the
steps between them.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.errors import PipelineError
from common.files import json_bytes, verified_directory
from common.sections import Section, read_json
from model.network.gpt import GPT
from model.pretraining.loop import History, TrainingPoint, ValidationPoint
from model.pretraining.loss_spikes import SpikeDetector
from model.runtime.distributed import Processes
from model.runtime.hardware import machine
from model.runtime.resumable import piece

_KEPT = 2
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class SavedHistory(Section):
    """history.json. `work` is the name of the scratch folder it was written in: states of other work are refused."""

    machine: str
    recent_losses: list[float]
    spikes: int
    step: int
    training: list[list[int | float]]
    validated: list[list[int | float | None]]
    work: str


class RunStore:
    """A run's scratch folder `directory`; None in all processes but the first, which alone reads and writes it."""

    def __init__(
        self,
        directory: Path | None,
        checkpoint_steps: list[int],
        save_checkpoint: Callable[[Path, int, GPT], None],
        processes: Processes,
        label: str,
    ):
        self._directory, self._checkpoint_steps, self._save_checkpoint = (
            directory,
            checkpoint_steps,
            save_checkpoint,
        )
        self._processes, self._label = processes, label

    @property
    def checkpoints(self) -> Path:
        return self._directory / "checkpoints"

    def resume(self, model: GPT, optimizer: torch.optim.Optimizer) -> History:
        """Bring model and optimizer to the newest whole state and return its history; an empty one where there is none."""
        history = self._newest(model, optimizer) if self._directory else History()
        if self._processes.count > 1:
            received = [history]
            dist.broadcast_object_list(received, src=0, device=torch.device("cpu"))
            [history] = received
            if history.step:
                for tensor in _tensors(model, optimizer).values():
                    dist.broadcast(tensor, src=0)
        return history

    def keep_checkpoint(self, step: int, model: GPT) -> None:
        if self._directory:
            piece(
                self.checkpoints / f"step_{step}",
                lambda partial: self._save_checkpoint(partial, step, model),
            )

    def keep_state(self, model: GPT, optimizer: torch.optim.Optimizer, history: History) -> None:
        if self._directory:
            piece(
                self._states / f"step_{history.step}",
                lambda partial: self._write(partial, model, optimizer, history),
            )
            for old in _by_step(self._states)[_KEPT:]:
                shutil.rmtree(old)

    @property
    def _states(self) -> Path:
        return self._directory / "states"

    def _write(
        self, partial: Path, model: GPT, optimizer: torch.optim.Optimizer, history: History
    ) -> None:
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in _tensors(model, optimizer).items()
        }
        save_file(tensors | _generators(model), partial / "state.safetensors")
        saved = SavedHistory(
            machine=machine(model.lm_head.weight.device),
            recent_losses=list(history.spikes.recent),
            spikes=history.spikes.count,
            step=history.step,
            training=[list(point) for point in history.training],
            validated=[list(point) for point in history.validated],
            work=self._directory.name,
        )
        (partial / "history.json").write_bytes(json_bytes(saved.model_dump()))

    def _newest(self, model: GPT, optimizer: torch.optim.Optimizer) -> History:
        history = History()
        for directory in _by_step(self._states):
            try:
                history = self._read(directory, model, optimizer)
                break
            except (
                PipelineError,
                OSError,
                TypeError,
            ) as error:  # the last: a row of another length
                _say(f"warning: {self._label}: {directory.name}'s state is not used: {error}")
                shutil.rmtree(directory, ignore_errors=True)
        # What comes after the state is made again.
        for later in _by_step(self.checkpoints):
            if _step(later) > history.step:
                shutil.rmtree(later)
        if history.step:
            _say(f"{self._label}: goes on from step {history.step}")
        return history

    def _read(self, directory: Path, model: GPT, optimizer: torch.optim.Optimizer) -> History:
        verified_directory(directory)
        saved = read_json(directory / "history.json", SavedHistory)
        if (saved.work, f"step_{saved.step}") != (self._directory.name, directory.name):
            raise PipelineError(f"{directory}: it is of other work")
        for step in self._checkpoint_steps:
            if step <= saved.step:
                verified_directory(self.checkpoints / f"step_{step}")
        try:
            found = load_file(directory / "state.safetensors")
        except SafetensorError as error:
            raise PipelineError(f"{directory}: not readable as safetensors ({error})") from None
        history = History()
        history.step = saved.step
        history.training = [TrainingPoint(*row) for row in saved.training]
        history.validated = [ValidationPoint(*row) for row in saved.validated]
        history.spikes = SpikeDetector(saved.recent_losses, saved.spikes)
        _restore(found, model, optimizer)  # last: a state that is refused changes nothing
        here = machine(model.lm_head.weight.device)
        if saved.machine != here:
            _say(
                f"warning: {self._label}: begun on {saved.machine}, goes on on {here}: the last bits may differ"
            )
        return history


def _by_step(folder: Path) -> list[Path]:
    """Return the finished directories of `folder`, those of the last steps first."""
    return sorted(folder.glob("step_[0-9]*"), key=_step, reverse=True)


def _step(directory: Path) -> int:
    return int(directory.name.removeprefix("step_"))


def _tensors(model: GPT, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return all that training changes by name: the tensors themselves, moments that are not there yet as zeros."""
    tensors = {}
    for name, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        if not state:  # as torch's own for fused=True
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = (
                torch.zeros_like(parameter),
                torch.zeros_like(parameter),
            )
        tensors[f"weights.{name}"] = parameter.data
        tensors |= {f"{moment}.{name}": state[moment] for moment in _MOMENTS}
    return tensors


def _restore(found: dict[str, Tensor], model: GPT, optimizer: torch.optim.Optimizer) -> None:
    expected = _tensors(model, optimizer)
    generators = _generators(model)
    kinds = {name: (tensor.shape, tensor.dtype) for name, tensor in (expected | generators).items()}
    if {name: (tensor.shape, tensor.dtype) for name, tensor in found.items()} != kinds:
        raise PipelineError("state.safetensors: its tensors are not those of this network")
    # Nothing draws from them after the first weights. Whoever adds dropout finds it resumed, in one process.
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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
