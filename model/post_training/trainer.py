"""Supervised fine-tuning by transformers' Trainer; a killed run continues from its newest state.

A state is a Trainer checkpoint plus work.json and SHA256SUMS (model/runtime/step_states.py). With
portable kernels, `GroupTrainer` splits a batch into groups of rows and computes each group in one
thread, so that the bytes do not depend on the number of threads.
"""

import math
import time
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

# The Trainer runs its loop with accelerate. Imported here so that its version is an input of the
# stage.
import accelerate  # noqa: F401
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from torch import Tensor, nn
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.models.gpt2.modeling_gpt2 import GPT2LMHeadModel
from transformers.trainer_callback import PrinterCallback, TrainerControl, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from common.errors import PipelineError
from common.sections import read_json
from model.hugging_face.loading import load_hugging_face_model
from model.numerics.hardware import machine
from model.numerics.pairwise_sum import PairwiseSum
from model.numerics.setting import Numerics
from model.numerics.side_by_side import SideBySide
from model.params.sft import SftParams
from model.post_training.chat_format import Row
from model.runtime.live_figures import LiveFigures, in_words
from model.runtime.step_states import States

# The target that torch's cross-entropy ignores by default.
_IGNORED = -100

# Rows of a group. Smaller groups keep more cores busy, but each makes a gradient as large as the
# network: 8 rows of the demonstration take 36 ms of one core in groups of 4, and 57 ms one by one.
_GROUP_ROWS = 4


class LossPoint(NamedTuple):
    """The mean loss of the steps since the last point, in nats per learned token."""

    step: int
    train_loss: float


class _TrainerState(BaseModel):
    """The part of the Trainer's trainer_state.json that is read: an entry for each logged step."""

    model_config = ConfigDict(extra="ignore", strict=True)

    log_history: list[dict[str, Any]]


def collate(rows: list[Row], padding: int) -> dict[str, Tensor]:
    """Return `input_ids`, `attention_mask` and `labels`, each (rows, longest row) int64.

    End of text (E) is the id of the padding and also a token to be learned, so only the mask shows
    which ids are padding. Two rows, of which `c E` and `f E` are learned:

        input_ids        attention_mask    labels
        E a b c E        1 1 1 1 1         -100 -100 -100 c    E
        E d f E E        1 1 1 1 0         -100 -100 f    E    -100
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
    model: GPT2LMHeadModel,
    rows: list[Row],
    params: SftParams,
    seed: int,
    scratch: Path,
    label: str,
    numerics: Numerics,
) -> list[LossPoint]:
    """Train `model` in place on `rows` in an order drawn from `seed`; return the loss curve.

    Training continues from the newest state in `scratch`. Raises PipelineError if a loss or a
    gradient is not finite, if a state cannot be read, or if the Trainer would take another number
    of conversations a step than params.yaml asks for.
    """
    # Hide two warnings of the Trainer that do not apply: about a loss that it computes correctly,
    # and about how it handles states.
    logging.set_verbosity_error()
    states = trainer_states(scratch, params.device, label)
    step, state = states.newest(lambda step, directory: (step, directory)) or (0, None)
    live = LiveFigures(scratch, label, params.max_steps)
    live.go_on(step)
    if state is not None and step == params.max_steps:
        # The run was killed after its last state. The Trainer would take one step too many.
        model.load_state_dict(load_hugging_face_model(state).state_dict())
        history = read_json(state / "trainer_state.json", _TrainerState).log_history
    else:
        trainer = _trainer(model, rows, params, seed, states, numerics, live)
        _train(trainer, state, label)
        history = trainer.state.log_history
    return [LossPoint(entry["step"], entry["loss"]) for entry in history if "loss" in entry]


def trainer_states(scratch: Path, device: str, label: str) -> States:
    """Return the Trainer's checkpoints in `scratch` as states of this machine's kind."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    return States(scratch, prefix, machine(torch.device(device)), label)


def _train(trainer: Trainer, state: Path | None, label: str) -> None:
    """Train from the start or from `state`; raise PipelineError if `state` cannot be read."""
    try:
        trainer.train(resume_from_checkpoint=None if state is None else str(state))
    except (UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        # "Error while serializing" concerns a file that is being written, as on a full disk.
        if state is None or reason.startswith("Error while serializing"):
            raise
        # The Trainer loads its optimizer's file with weights_only, so a pickle with code raises.
        raise PipelineError(
            f"{label}: {state} is not a readable state ({reason}); delete it and run it again"
        ) from None


class GroupTrainer(Trainer):
    """A Trainer that computes groups of a batch's rows in parallel threads.

    Gradients are added in a fixed order (model/numerics/pairwise_sum.py), so the bytes are the same
    for any number of threads.
    """

    def __init__(self, *args: Any, side_by_side: SideBySide, **options: Any):
        super().__init__(*args, **options)
        self._threads = side_by_side

    def training_step(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Set the parameters' `grad` and return the batch's mean loss per learned token, in nats.

        `num_items_in_batch` is the number of learned tokens, by which losses are divided.
        """
        if num_items_in_batch is None:
            raise TypeError("the Trainer has not counted the learned tokens of the batch")
        model.train()
        parameters = list(model.parameters())

        # The group's share of the mean loss, then a gradient for each parameter.
        def of_group(group: tuple[Tensor, Tensor]) -> list[Tensor]:
            loss = _summed_loss(model, *group) / num_items_in_batch
            return [loss.detach(), *torch.autograd.grad(loss, parameters)]

        pairs, groups = PairwiseSum(self._threads), _groups(inputs)
        # As many groups at once as there are threads: each holds gradients as large as the network.
        for start in range(0, len(groups), self._threads.threads):
            together = groups[start : start + self._threads.threads]
            for gradients in self._threads.map(of_group, together):
                pairs.add(gradients)
        loss, *total = pairs.total()
        for parameter, gradient in zip(parameters, total, strict=True):
            parameter.grad = gradient
        return loss


def _groups(batch: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return ids and labels of each group, both (4 rows or fewer, the group's longest row).

    Rows are sorted by length, longest first, so that groups have little padding.
    """
    # (rows,): tokens without padding
    lengths = batch["attention_mask"].sum(1)
    groups = []
    for rows in lengths.argsort(descending=True, stable=True).split(_GROUP_ROWS):
        width = int(lengths[rows].max())
        groups.append((batch["input_ids"][rows, :width], batch["labels"][rows, :width]))
    return groups


def _summed_loss(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Return the summed cross-entropy of the learned tokens, in nats.

    `ids` and `labels` are (rows, time). No mask is needed: padding is on the right, and attention
    is causal. The output layer is half of the network's arithmetic, so it runs on learned tokens
    only.
    """
    # (rows, time, width)
    hidden = model.transformer(ids, use_cache=False).last_hidden_state
    # (rows, time - 1) bool: place i predicts token i + 1
    learned = labels[:, 1:] != _IGNORED
    # (learned tokens, vocab)
    logits = model.lm_head(hidden[:, :-1][learned])
    return F.cross_entropy(logits, labels[:, 1:][learned], reduction="sum")


def _trainer(
    model: GPT2LMHeadModel,
    rows: list[Row],
    params: SftParams,
    seed: int,
    states: States,
    numerics: Numerics,
    live: LiveFigures,
) -> Trainer:
    """Return the Trainer; raise PipelineError if it would not follow `params`."""
    padding = model.config.eos_token_id
    if not isinstance(padding, int):
        raise PipelineError(f"{states.label}: the export's config.json has no eos_token_id")
    figures = _Figures(states.label, live)

    def batch(rows: list[Row]) -> dict[str, Tensor]:
        figures.tokens += sum(len(row.ids) for row in rows)
        return collate(rows, padding)

    options: dict[str, Any] = {
        "data_collator": batch,
        "train_dataset": rows,
        "callbacks": [_Keeper(states), figures],
    }
    arguments = _arguments(params, seed, states.scratch)
    trainer = (
        GroupTrainer(model, arguments, **options, side_by_side=numerics.side_by_side)
        if numerics.portable
        else Trainer(model, arguments, **options)
    )
    trainer.remove_callback(PrinterCallback)
    # Environment variables can give the Trainer more processes or another precision.
    taken = trainer.args.train_batch_size * trainer.args.world_size
    precision = {"float32": "no", "bfloat16": "bf16"}[params.dtype]
    if (taken, trainer.accelerator.mixed_precision) != (params.batch_rows, precision):
        raise PipelineError(
            f"{states.label}: a step would take {taken} conversations in precision "
            f"{trainer.accelerator.mixed_precision!r}, params.yaml asks for {params.batch_rows} in "
            f"{params.dtype}; unset what tells the Trainer of other processes or GPUs"
        )
    return trainer


def _arguments(params: SftParams, seed: int, scratch: Path) -> TrainingArguments:
    """Return the section `sft` in the Trainer's names."""
    arguments = TrainingArguments(
        output_dir=str(scratch),
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
        # The Trainer adds the epoch's number: seed 1 draws with 1000, 1001, …, seed 2 with 2000.
        # Without the factor, seed 1's second epoch would have the order of seed 2's first.
        data_seed=1000 * seed,
        logging_steps=params.log_every,
        # A loss that is NaN must show, so that `_Keeper` stops the run.
        logging_nan_inf_filter=False,
        save_steps=params.state_every,
        remove_unused_columns=False,
        dataloader_pin_memory=params.device == "cuda",
        report_to="none",
        # Its progress bar shows no loss; `_Figures` shows one that does.
        disable_tqdm=True,
    )
    # Without this the Trainer uses every GPU that it finds, with batch_rows conversations on each.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class _Figures(TrainerCallback):
    """Show the run's progress: a bar in a terminal, and rows of live.jsonl.

    `tokens` counts the tokens of the batches since the last row.
    """

    def __init__(self, label: str, live: LiveFigures):
        self._label, self._live = label, live
        self.tokens = 0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._first = state.global_step
        self._began = self._logged = time.perf_counter()
        self._bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            desc=self._label,
            unit="step",
            disable=None,
        )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._bar.update()

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **said: Any
    ) -> None:
        logs: dict[str, float] = said["logs"]
        # The Trainer's last entry is a summary without a loss.
        if "loss" not in logs:
            return
        now = time.perf_counter()
        shown = {
            "learning_rate": logs["learning_rate"],
            "gradient_norm": float(logs["grad_norm"]),
            "train_loss": logs["loss"],
            "tokens_per_second": self.tokens / (now - self._logged),
        }
        step = state.global_step
        # seconds, at the mean pace since this process began
        left = (state.max_steps - step) * (now - self._began) / (step - self._first)
        self._live.append("training", step, **shown, seconds_left=left)
        self._bar.set_postfix_str(in_words(shown))
        self._logged, self.tokens = now, 0

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._bar.close()


class _Keeper(TrainerCallback):
    """Complete each Trainer checkpoint as a state; stop the run at a loss that is not finite."""

    def __init__(self, states: States):
        self._states = states

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self._states.complete(state.global_step)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **said: Any
    ) -> None:
        logs: dict[str, float] = said["logs"]
        for name, called in (("loss", "loss"), ("grad_norm", "gradient's norm")):
            if not math.isfinite(float(logs.get(name, 0.0))):
                raise PipelineError(
                    f"{self._states.label}: the {called} is {logs[name]} at step "
                    f"{state.global_step}; lower sft.learning_rate, or look for steps whose "
                    "conversations all have questions longer than the context"
                )
