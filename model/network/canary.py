"""The canary: validation rows whose loss is in each checkpoint; its export must reproduce it."""

import numpy as np
import torch
from torch import Tensor

from model.network.batches import spread_documents, validation_rows
from model.tokens.shards import TokenSplit


def canary_rows(
    validation: TokenSplit, documents: int, context: int
) -> tuple[Tensor, list[np.ndarray]]:
    """Return int64 (rows, context + 1) of `documents` spread over the split, and their ids."""
    chosen, _ = validation.read(spread_documents(int(validation.documents.sum()), documents))
    rows, _ = validation_rows(chosen, context)
    return torch.from_numpy(rows), chosen


def mean_loss(logits: Tensor, targets: Tensor) -> float:
    """Return the mean loss in nats per token, summed in float64.

    `logits` (batch, time, vocab), `targets` (batch, time).
    """
    return torch.nn.functional.cross_entropy(
        logits.double().flatten(0, 1), targets.flatten()
    ).item()
