"""The pretraining loop: AdamW, warm-up and cosine, gradient accumulation, validation in bits per byte, checkpoints.

Source of the recipe: GPT-3 (Brown et al. 2020, appendix B) as karpathy/nanoGPT has it.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from model.batches import TrainingRows, spread_documents, validation_rows
from model.errors import PipelineError
from model.gpt import GPT
from model.params.pretrain import PretrainParams
from model.shards import TokenSplit


class TrainingPoint(NamedTuple):
    """One row of training.csv: means over the steps since the last row; tokens and bytes seen by the end of `step`."""

    step: int
    tokens: int
    original_bytes: int
    learning_rate: float
    gradient_norm: float
    train_loss: float


class ValidationPoint(NamedTuple):
    """One row of validation.csv: loss in nats a token; bits per byte of natural text, and of the generated drills."""

    step: int
    tokens: int
    original_bytes: int
    val_loss: float
    val_bits_per_byte: float
    val_drill_bits_per_byte: float | None


def learning_rate_at(step: int, params: PretrainParams) -> float:
    """Return the learning rate of step 1 … max_steps: linear warm-up, then a cosine to `min_learning_rate`."""
    if step <= params.warmup_steps:
        return params.learning_rate * step / params.warmup_steps
    progress = (step - params.warmup_steps) / (params.max_steps - params.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return params.min_learning_rate + cosine * (params.learning_rate - params.min_learning_rate)


def make_optimizer(model: GPT, params: PretrainParams) -> torch.optim.AdamW:
    """AdamW that decays matrices (embeddings among them) and neither biases nor norms."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": params.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=params.learning_rate, betas=(params.beta1, params.beta2), fused=True)


class Validation:
    """Scores a fixed sample of the validation split, whole documents, the same ones in every condition."""

    def __init__(self, split: TokenSplit, documents: int, context: int, drill_source: str):
        chosen = spread_documents(len(split.lengths), documents)
        self._rows, self._owners = validation_rows(split, chosen, context)
        self._original_bytes = split.original_bytes[chosen]
        drill = split.index.sources.index(drill_source) if drill_source in split.index.sources else -1
        self._is_drill = split.sources[chosen] == drill

    @torch.no_grad()
    def score(self, model: GPT, rows_per_batch: int) -> tuple[float, float, float | None]:
        """Return mean loss in nats a token, bits per byte of natural text, and of drills (None where there are none).

        Bits of the end-of-text tokens count towards the document that follows, so that no bit is lost.
        """
        device = next(model.parameters()).device
        nats = np.zeros(len(self._original_bytes))
        for start in range(0, len(self._rows), rows_per_batch):
            rows = torch.from_numpy(self._rows[start : start + rows_per_batch]).to(device)
            owners = self._owners[start : start + rows_per_batch].reshape(-1)
            losses = token_losses(model(rows[:, :-1]), rows[:, 1:]).double().cpu().numpy()
            np.add.at(nats, owners[owners >= 0], losses[owners >= 0])
        targets = int((self._owners >= 0).sum())
        text, drills = (self._bits_per_byte(nats, chosen) for chosen in (~self._is_drill, self._is_drill))
        return float(nats.sum() / targets), text, drills

    def _bits_per_byte(self, nats: np.ndarray, chosen: np.ndarray) -> float | None:
        total_bytes = int(self._original_bytes[chosen].sum())
        return float(nats[chosen].sum() / math.log(2) / total_bytes) if total_bytes else None


def train(
    model: GPT,
    rows: TrainingRows,
    validation: Validation,
    params: PretrainParams,
    save_checkpoint: Callable[[int, GPT], None],
    label: str,
) -> tuple[list[TrainingPoint], list[ValidationPoint]]:
    """Train `model` in place for `max_steps`, calling `save_checkpoint` after each step of `checkpoint_steps`.

    Works on the device the model is on. Raises PipelineError when a figure is not finite, before anything is saved.
    """
    optimizer = make_optimizer(model, params)
    tokens_per_step = params.batch_rows * model.config.context
    training: list[TrainingPoint] = []
    validated = [_validate(model, validation, rows, params, 0, 0)]
    since_log: list[Tensor] = []
    started = time.perf_counter()
    with tqdm(total=params.max_steps, desc=label, unit="step", disable=None) as progress:
        for step in range(1, params.max_steps + 1):
            learning_rate = learning_rate_at(step, params)
            batch = torch.from_numpy(rows.rows((step - 1) * params.batch_rows, params.batch_rows))
            since_log.append(_optimizer_step(model, optimizer, batch, learning_rate, params))
            tokens = step * tokens_per_step
            saving = step in params.checkpoint_steps
            last = step == params.max_steps
            if saving or last or step % params.log_every == 0:
                loss, norm = torch.stack(since_log).mean(dim=0).tolist()
                _require_finite(label, step, loss, norm)
                training.append(TrainingPoint(step, tokens, rows.original_bytes(tokens), learning_rate, norm, loss))
                since_log = []
                rate = tokens / (time.perf_counter() - started)
                progress.set_postfix_str(f"loss {loss:.3f}, {rate:,.0f} tokens/s")
            if saving or last or step % params.validate_every == 0:
                validated.append(_validate(model, validation, rows, params, step, tokens))
                _require_finite(label, step, validated[-1].val_loss)
            if saving:
                save_checkpoint(step, model)
            progress.update()
    return training, validated


def _require_finite(label: str, step: int, *figures: float) -> None:
    """Training losses are of the network before the step, the validation loss is of the one that would be saved."""
    for figure in figures:
        if not math.isfinite(figure):
            raise PipelineError(f"{label}: loss is {figure} by step {step}; lower pretrain.learning_rate or look at the data")


def _optimizer_step(
    model: GPT, optimizer: torch.optim.Optimizer, batch: Tensor, learning_rate: float, params: PretrainParams
) -> Tensor:
    """Take one step on `batch` (rows, context + 1); return its mean loss and gradient norm as a tensor of two."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    losses = []
    for micro_batch in batch.split(params.micro_batch_rows):
        micro_batch = micro_batch.to(next(model.parameters()).device, non_blocking=True)
        loss = token_losses(model(micro_batch[:, :-1]), micro_batch[:, 1:]).mean()
        (loss * len(micro_batch) / len(batch)).backward()
        losses.append(loss.detach())
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), params.gradient_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return torch.stack([torch.stack(losses).mean(), norm])


def _validate(
    model: GPT, validation: Validation, rows: TrainingRows, params: PretrainParams, step: int, tokens: int
) -> ValidationPoint:
    return ValidationPoint(step, tokens, rows.original_bytes(tokens), *validation.score(model, params.micro_batch_rows))


def token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood in nats of each target, float32, flattened: (batch × time,).

    `logits` (batch, time, vocab), `targets` (batch, time) int64.
    """
    return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
