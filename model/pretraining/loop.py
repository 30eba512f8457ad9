"""The pretraining loop: gradient accumulation, several processes, validation, checkpoints.

The global batch and its order do not depend on the number of processes. Gradients are exchanged
once per step. A step:

    rows of the global batch ─▶ this process's share ─▶ gradients ─▶ sum over processes
    ─▶ clip ─▶ optimizer ─▶ every `log_every`: figures; `validate_every`: validation;
    `checkpoint_steps`: log, validation, checkpoint; `state_every`: state to resume from
"""

import math
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from common.errors import PipelineError
from model.network.gpt import GPT, seen_in_document
from model.numerics.setting import Numerics
from model.params.pretrain import PretrainParams
from model.pretraining.document_losses import DocumentLoss
from model.pretraining.gradients import Gradients, MicroBatchGradients, RowGradients
from model.pretraining.loss_spikes import SpikeDetector
from model.pretraining.losses import loss_and_gradient, mean_loss
from model.pretraining.optimizer import Optimizers, make_optimizer
from model.pretraining.schedule import learning_rate_at
from model.pretraining.throughput import Speed
from model.pretraining.training_rows import TrainingRows, prefetched
from model.pretraining.validation import Validation
from model.runtime.distributed import Processes
from model.runtime.live_figures import LiveFigures, in_words

Function = TypeVar("Function", bound=Callable[..., Any])


class TrainingPoint(NamedTuple):
    """One row of training.csv.

    Loss (nats per token), bits per byte and gradient norm are means over the steps since the last
    row. `tokens` and `original_bytes` count from the start up to `step`.
    """

    step: int
    tokens: int
    original_bytes: int
    learning_rate: float
    gradient_norm: float
    train_loss: float
    train_bits_per_byte: float


class ValidationPoint(NamedTuple):
    """One row of validation.csv: loss in nats per token; bits per byte of text and of drills.

    The last is None if the validation sample has no drills.
    """

    step: int
    tokens: int
    original_bytes: int
    val_loss: float
    val_bits_per_byte: float
    val_drill_bits_per_byte: float | None


class History:
    """The steps and figures of a run up to `step`.

    Later steps depend on the history, the weights and the optimizer only. `documents` holds the
    document losses of the last validation. A state leaves them out, because a resumed run ends with
    a validation that measures them again.
    """

    def __init__(self) -> None:
        self.step = 0
        self.training: list[TrainingPoint] = []
        self.validated: list[ValidationPoint] = []
        self.documents: list[DocumentLoss] = []
        self.spikes = SpikeDetector()


class Store(Protocol):
    """Storage of a run (model/pretraining/state.py): all processes call it, the first writes."""

    def resume(self, model: GPT, optimizer: Optimizers) -> History: ...
    def keep_checkpoint(self, step: int, model: GPT) -> None: ...
    def keep_state(self, model: GPT, optimizer: Optimizers, history: History) -> None: ...


class LossNetwork(nn.Module):
    """`forward(rows)` maps ids (batch, context + 1) int64 to their mean loss in nats per token."""

    def __init__(self, model: GPT, params: PretrainParams, end_of_text: int | None = None):
        """Let tokens attend within documents only, if `end_of_text` is given."""
        super().__init__()
        self.model, self._end_of_text = model, end_of_text
        self._device, self._dtype = params.device, getattr(torch, params.dtype)
        # A compiled module would rename its parameters; a compiled function does not.
        self._hidden = (
            _compiled(model.last_hidden_state) if params.compile else model.last_hidden_state
        )
        self._of_logits = _compiled(loss_and_gradient) if params.compile else loss_and_gradient

    def forward(self, rows: Tensor) -> Tensor:
        # rows (batch, context + 1): a row's inputs are all tokens but the last, its targets all but
        # the first.
        lower = self._dtype != torch.float32
        with torch.autocast(self._device, self._dtype) if lower else nullcontext():
            inputs = rows[:, :-1]
            # (batch, context, width)
            hidden = self._hidden(inputs, seen_in_document(inputs, self._end_of_text))
        # The output layer's input (batch × context, width), its weight (vocab, width), and the
        # targets (batch × context,).
        return mean_loss(
            hidden.flatten(0, 1).to(self._dtype),
            self.model.lm_head.weight,
            rows[:, 1:].flatten(),
            self._of_logits,
        )


class Training:
    """One pretraining run; it trains `model` in place, on the model's device."""

    def __init__(
        self,
        model: GPT,
        rows: TrainingRows,
        validation: Validation,
        params: PretrainParams,
        numerics: Numerics,
        processes: Processes,
        label: str,
    ):
        self._model, self._rows, self._validation = model, rows, validation
        self._params, self._numerics, self._processes = params, numerics, processes
        self._label = label
        self._device = model.lm_head.weight.device
        self._tokens_per_step = params.batch_rows * model.config.context
        # A tensor of loss and gradient norm for each step since the last row of training.csv. They
        # stay on the device: reading one would wait for it.
        self._since_log: list[Tensor] = []
        dtype = getattr(torch, params.dtype)
        # `Speed` measures the peak in one thread; this many compute at the same time.
        computing = processes.count * numerics.side_by_side.threads
        self.speed = Speed(model.config, self._tokens_per_step, self._device, dtype, computing)

    def run(self, store: Store, live: LiveFigures | None = None) -> History:
        """Train to `max_steps` from the newest state in `store`; append all figures to `live`.

        Returns the history of the whole run, resumed steps included. Raises PipelineError if a loss
        or a gradient norm is not finite.
        """
        params, model = self._params, self._model
        optimizer = make_optimizer(model, params, self._numerics.side_by_side)
        history = store.resume(model, optimizer)
        live = live or LiveFigures(None, self._label, params.max_steps)
        live.go_on(history.step)
        if history.step == 0:
            self._validate(history, live)
        gradients = self._gradients()
        todo = range(history.step + 1, params.max_steps + 1)
        with tqdm(
            total=params.max_steps,
            initial=history.step,
            desc=self._label,
            unit="step",
            disable=self._quiet,
        ) as bar:
            self.speed.start()
            for step, batch in zip(todo, prefetched(self._batch, todo), strict=True):
                history.step = step
                learning_rate = learning_rate_at(step, params)
                self._since_log.append(
                    optimizer_step(gradients, optimizer, batch, learning_rate, params)
                )
                bar.update()
                # A checkpoint needs figures of its own step, so saving also logs and validates.
                saving, state = step in params.checkpoint_steps, step % params.state_every == 0
                if saving or step % params.log_every == 0:
                    self._log(history, learning_rate, live, bar)
                if saving or step % params.validate_every == 0:
                    self._validate(history, live)
                if saving:
                    with self.speed.other("checkpoints"):
                        store.keep_checkpoint(step, model)
                # After the last step there is nothing to resume.
                if state and step < params.max_steps:
                    with self.speed.other("states"):
                        store.keep_state(model, optimizer, history)
        return history

    def _gradients(self) -> Gradients:
        end_of_text = self._rows.end_of_text if self._params.attention_within_documents else None
        network = LossNetwork(self._model, self._params, end_of_text)
        processes = self._processes
        if self._numerics.portable:
            return RowGradients(network, self._numerics.side_by_side, processes)
        rows = self._params.micro_batch_rows
        return MicroBatchGradients(network, rows, processes, self._device)

    @property
    def _quiet(self) -> bool | None:
        return None if self._processes.rank == 0 else True

    def _batch(self, step: int) -> Tensor:
        """Return this process's rows of the step's global batch; runs in the read-ahead thread."""
        # Step s (from 1) has the rows from (s − 1) × batch_rows on. Of 8 rows, rank 1 of 2 takes
        # the last 4.
        count = self._params.batch_rows // self._processes.count
        first = (step - 1) * self._params.batch_rows + self._processes.rank * count
        batch = torch.from_numpy(self._rows.rows(first, count))
        if self._device.type == "cuda":
            # Each thread has a current device of its own, at first GPU 0.
            torch.cuda.set_device(self._device)
            return batch.pin_memory()
        return batch

    def _log(
        self, history: History, learning_rate: float, live: LiveFigures, bar: "tqdm[NoReturn]"
    ) -> None:
        # (steps since the last row, 2): loss and gradient norm. This waits for the device.
        figures = torch.stack(self._since_log).double().cpu().numpy()
        # With native kernels each process has the mean of its own rows. With portable ones all have
        # the same mean, and the mean of equal numbers changes nothing.
        figures = self._processes.total(figures) / self._processes.count
        self._since_log = []
        loss, norm = figures.mean(axis=0).tolist()
        _require_finite(self._label, history.step, "loss", loss)
        _require_finite(self._label, history.step, "gradient norm", norm)
        self._look_for_spikes(history, figures)
        tokens = history.step * self._tokens_per_step
        seen = self._rows.original_bytes(tokens)
        before = history.training[-1].original_bytes if history.training else 0
        # The interval's nats, as bits, over the bytes of text that its tokens stand for.
        bits_per_byte = loss * len(figures) * self._tokens_per_step / math.log(2) / (seen - before)
        point = TrainingPoint(history.step, tokens, seen, learning_rate, norm, loss, bits_per_byte)
        history.training.append(point)
        shown = {
            **point._asdict(),
            "loss_spikes": history.spikes.count,
            **self.speed.took(len(figures))._asdict(),
        }
        left = self.speed.seconds_for(self._params.max_steps - history.step)
        live.append("training", **shown, seconds_left=left)
        # The bar already shows steps and time left.
        bar.set_postfix_str(in_words(shown))

    def _look_for_spikes(self, history: History, figures: np.ndarray) -> None:
        for step, (loss, norm) in enumerate(figures.tolist(), history.step - len(figures) + 1):
            usual = history.spikes.hear(loss)
            if usual is not None and self._processes.rank == 0:
                tqdm.write(
                    f"warning: {self._label}: loss spike at step {step}: {loss:.3f}, where "
                    f"{usual:.3f} was usual; "
                    f"gradient norm {norm:.2f}",
                    file=sys.stderr,
                )

    def _validate(self, history: History, live: LiveFigures) -> None:
        with self.speed.other("validation"):
            nats = self._validation.nats(
                self._model,
                self._numerics.rows_at_a_time(self._params.micro_batch_rows),
                self._processes,
                self._numerics.side_by_side,
            )
        figures = self._validation.figures(nats)
        _require_finite(self._label, history.step, "validation loss", figures[0])
        history.documents = self._validation.by_document(nats)
        tokens = history.step * self._tokens_per_step
        point = ValidationPoint(history.step, tokens, self._rows.original_bytes(tokens), *figures)
        history.validated.append(point)
        live.append("validation", **point._asdict())


def optimizer_step(
    gradients: Gradients,
    optimizer: Optimizers,
    batch: Tensor,
    learning_rate: float,
    params: PretrainParams,
) -> Tensor:
    """Take one optimizer step on `batch`, this process's rows, int64 (rows, context + 1).

    Returns the mean loss in nats per token and the gradient norm before clipping, float32 (2,).
    """
    optimizer.set_learning_rate(learning_rate)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    loss = gradients(batch)
    norm = nn.utils.clip_grad_norm_(parameters, params.gradient_clip, foreach=True)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return torch.stack([loss, norm])


def _compiled(function: Function) -> Function:
    """Compile with kernels chosen by rule, not by timing, so a resumed run has the same ones.

    Each shape has its own: a graph for several shapes would depend on which came first.
    """
    # Imported here, since the import takes half a second.
    import torch._inductor.config as inductor

    inductor.deterministic = True
    return cast(Function, torch.compile(function, dynamic=False))


def _require_finite(label: str, step: int, name: str, figure: float) -> None:
    """Raise PipelineError if `figure` is not finite.

    Both kinds of loss are checked before a checkpoint: a training loss is the network's before its
    step, the validation loss is that of the network to be saved.
    """
    if not math.isfinite(figure):
        raise PipelineError(
            f"{label}: {name} is {figure} by step {step}; lower pretrain.learning_rate or look at "
            "the data"
        )
