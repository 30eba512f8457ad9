"""Supervised fine-tuning by transformers' Trainer, resumable: what a killed run needs to go on, verified before it is used.

A state is a checkpoint of the Trainer's with a file more, of whose work it is, and SHA256SUMS, written last: without them it is
not whole.
"""

import shutil
import sys
from pathlib import Path
from pickle import UnpicklingError  # the name of an error
from typing import NamedTuple

import accelerate  # noqa: F401 -- half of the Trainer's loop; imported here, its version is an input of the stage
import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging

from common.errors import PipelineError
from common.files import verified_directory, write_checksums
from common.sections import Section, read_json
from model.hugging_face.loading import load_hugging_face_model
from model.params.sft import SftParams
from model.post_training.chat_format import Row
from model.runtime.hardware import machine

_WORK = "work.json"
_IGNORED = -100  # torch's cross-entropy leaves out such targets


class LossPoint(NamedTuple):
    """The mean of the losses of the steps since the last point, each that of its learned tokens in nats."""

    step: int
    train_loss: float


class Work(Section):
    """Whose a state is: `folder`, the name of the folder that it was written in, and the machine."""

    folder: str
    machine: str


class _TrainerState(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    log_history: list[dict]


def collate(rows: list[Row], padding: int) -> dict[str, Tensor]:
    """Return rows as tensors (rows, longest row) of int64: `input_ids`, `attention_mask`, `labels`.

    What is padded is told by the mask, never by the id: end of text is both the padding and a token to be learned.
    """
    width = max(len(row.ids) for row in rows)

    def padded(values: list[list[int]], padding: int) -> Tensor:
        return torch.tensor([each + [padding] * (width - len(each)) for each in values])

    labels = [
        [token if learned else _IGNORED for token, learned in zip(*row, strict=True)]
        for row in rows
    ]
    return {
        "input_ids": padded([row.ids for row in rows], padding),
        "attention_mask": padded([[1] * len(row.ids) for row in rows], 0),
        "labels": padded(labels, _IGNORED),
    }


def fine_tune(
    model: GPT2LMHeadModel, rows: list[Row], params: SftParams, seed: int, states: Path, label: str
) -> list[LossPoint]:
    """Train `model` on `rows`, in an order drawn by `seed`, from the newest whole state below `states`; return the curve.

    Raises PipelineError where a loss or a gradient is not finite.
    """
    logging.set_verbosity_error()  # it warns of a loss that it then takes rightly, and of what it does about states
    state = newest_state(states, params.device, label)
    if (
        state is not None and _step(state) == params.max_steps
    ):  # nothing is left to do, and the Trainer would do one step more
        model.load_state_dict(load_hugging_face_model(state).state_dict())
        history = read_json(state / "trainer_state.json", _TrainerState).log_history
    else:
        trainer = _trainer(model, rows, params, seed, states, label)
        _train(trainer, state, label)
        history = trainer.state.log_history
    return [LossPoint(entry["step"], entry["loss"]) for entry in history if "loss" in entry]


def _train(trainer: Trainer, state: Path | None, label: str) -> None:
    """Train, from `state` on where there is one. Its optimizer is a file of torch's, which the Trainer reads as weights only."""
    try:
        trainer.train(resume_from_checkpoint=None if state is None else str(state))
    except (UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        if state is None or reason.startswith(
            "Error while serializing"
        ):  # of one that is being written, as to a full disk
            raise
        raise PipelineError(
            f"{label}: {state} holds what is no state ({reason}); delete it and run it again"
        ) from None


def newest_state(states: Path, device: str, label: str) -> Path | None:
    """Return the newest state that is whole and of this work; one that is not is named in a line and removed."""
    for state in sorted(states.glob("checkpoint-*"), key=_step, reverse=True):
        try:
            verified_directory(state)
            work = read_json(state / _WORK, Work)
            if work.folder != states.name:
                raise PipelineError(f"{state}: it is of other work")
        except PipelineError as error:
            _say(f"warning: {label}: {state.name} is not used: {error}")
            shutil.rmtree(state)
            continue
        here = machine(torch.device(device))
        if work.machine != here:
            _say(
                f"warning: {label}: begun on {work.machine}, goes on on {here}: the last bits may differ"
            )
        _say(f"{label}: goes on from step {_step(state)}")
        return state
    return None


def _trainer(
    model: GPT2LMHeadModel, rows: list[Row], params: SftParams, seed: int, states: Path, label: str
) -> Trainer:
    padding = model.config.eos_token_id
    trainer = Trainer(
        model,
        _arguments(params, seed, states),
        data_collator=lambda batch: collate(batch, padding),
        train_dataset=rows,
        callbacks=[_Keeper(params.device, label)],
    )
    trainer.remove_callback(PrinterCallback)
    taken = trainer.args.train_batch_size * trainer.args.world_size
    precision = {"float32": "no", "bfloat16": "bf16"}[params.dtype]
    if (taken, trainer.accelerator.mixed_precision) != (params.batch_rows, precision):
        raise PipelineError(
            f"{label}: a step would take {taken} conversations in precision {trainer.accelerator.mixed_precision!r}, params.yaml "
            f"asks for {params.batch_rows} in {params.dtype}; unset what tells the Trainer of other processes or GPUs"
        )
    return trainer


def _arguments(params: SftParams, seed: int, states: Path) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(states),
        max_steps=params.max_steps,
        per_device_train_batch_size=params.batch_rows,
        learning_rate=params.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=params.warmup_steps,
        weight_decay=params.weight_decay,
        adam_beta1=params.beta1,
        adam_beta2=params.beta2,
        max_grad_norm=params.gradient_clip,
        bf16=params.dtype == "bfloat16",
        use_cpu=params.device == "cpu",
        seed=seed,
        data_seed=1000
        * seed,  # an epoch's number is added to it, and no seed's second epoch is to be the next one's first
        logging_steps=params.log_every,
        logging_nan_inf_filter=False,
        save_steps=params.state_every,
        save_total_limit=2,
        remove_unused_columns=False,
        dataloader_pin_memory=params.device == "cuda",
        report_to="none",
        disable_tqdm=not sys.stderr.isatty(),
    )
    # Or the Trainer would use all the GPUs that it sees, with batch_rows conversations on each.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class _Keeper(TrainerCallback):
    """Seals each state, and stops where there is nothing to keep."""

    def __init__(self, device: str, label: str):
        self._device, self._label = device, label

    def on_save(self, arguments, state, control, **_) -> None:
        states = Path(arguments.output_dir)
        directory = states / f"checkpoint-{state.global_step}"
        work = Work(folder=states.name, machine=machine(torch.device(self._device)))
        (directory / _WORK).write_text(work.model_dump_json(), encoding="utf-8")
        sys.audit(
            "pipeline.piece_done"
        )  # the seal refuses what was made of an input that has changed meanwhile
        write_checksums(directory)

    def on_log(self, arguments, state, control, logs, **_) -> None:
        for name, called in (("loss", "loss"), ("grad_norm", "gradient's norm")):
            if not torch.isfinite(torch.tensor(float(logs.get(name, 0.0)))):
                raise PipelineError(
                    f"{self._label}: the {called} is {logs[name]} at step {state.global_step}; lower sft.learning_rate, or look "
                    f"for steps whose conversations all have questions longer than the context"
                )


def _step(state: Path) -> int:
    return int(state.name.partition("-")[2])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
