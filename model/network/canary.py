"""The canary: validation rows whose loss each checkpoint records and its export must reproduce."""

import numpy as np
import torch
from torch import Tensor

from model.network.batches import spread_documents, validation_rows
from model.tokens.shards import TokenSplit


def canary_rows(
    validation: TokenSplit, documents: int, context: int
) -> tuple[Tensor, list[np.ndarray]]:
    """Lay `documents` documents, spread over the validation split, out as rows.

    Returns the rows, int64 (rows, context + 1), and the ids of each document, uint16 (tokens,).
    """
    chosen, _ = validation.read(spread_documents(int(validation.documents.sum()), documents))
    rows, _ = validation_rows(chosen, context)
    return torch.from_numpy(rows), chosen


def mean_loss(logits: Tensor, targets: Tensor) -> float:
    """Return the mean loss in nats per token, summed in float64.

    `logits` (batch, time, vocab), `targets` (batch, time) int64.
    """
    # (batch, time, vocab) → (batch × time, vocab): cross_entropy takes classes second.
    return torch.nn.functional.cross_entropy(
        logits.double().flatten(0, 1), targets.flatten()
    ).item()
