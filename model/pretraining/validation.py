"""The validation loss: a fixed sample of whole held-out documents, the same ones in every condition."""

import math

import numpy as np
import torch

from common.errors import PipelineError
from model.network.batches import spread_documents, validation_rows
from model.network.gpt import GPT
from model.pretraining.losses import token_losses
from model.runtime.distributed import Processes
from model.tokens.shards import TokenSplit


class Validation:
    def __init__(self, split: TokenSplit, documents: int, context: int, drill_source: str):
        """Choose the documents; raises PipelineError if all of them are drills."""
        chosen = spread_documents(len(split.lengths), documents)
        self._rows, self._owners = validation_rows(split, chosen, context)
        self._original_bytes = split.original_bytes[chosen]
        drill = (
            split.index.sources.index(drill_source) if drill_source in split.index.sources else -1
        )
        self._is_drill = split.sources[chosen] == drill
        if self._is_drill.all():
            raise PipelineError(
                f"pretrain: all of the {len(chosen)} validation documents are drills; "
                "raise pretrain.validation_documents"
            )

    @torch.no_grad()
    def score(
        self, model: GPT, rows_per_batch: int, processes: Processes
    ) -> tuple[float, float, float | None]:
        """Return mean loss in nats a token, bits per byte of natural text, and of drills (None where there are none).

        Bits of the end-of-text tokens count towards the document that follows, so that no bit is lost. Computed in float32
        whatever the dtype of training; `processes` share the rows.
        """
        device = model.lm_head.weight.device
        nats = np.zeros(len(self._original_bytes))
        for start in range(
            processes.rank * rows_per_batch, len(self._rows), processes.count * rows_per_batch
        ):
            rows = torch.from_numpy(self._rows[start : start + rows_per_batch]).to(device)
            owners = self._owners[start : start + rows_per_batch].reshape(-1)
            hidden = model.last_hidden_state(rows[:, :-1]).flatten(0, 1)
            losses = (
                token_losses(hidden, model.lm_head.weight, rows[:, 1:].flatten())
                .double()
                .cpu()
                .numpy()
            )
            np.add.at(nats, owners[owners >= 0], losses[owners >= 0])
        nats = processes.total(nats)
        targets = int((self._owners >= 0).sum())
        text = self._bits_per_byte(nats, ~self._is_drill)
        drills = self._bits_per_byte(nats, self._is_drill) if self._is_drill.any() else None
        return float(nats.sum() / targets), text, drills

    def _bits_per_byte(self, nats: np.ndarray, chosen: np.ndarray) -> float:
        total_bytes = int(self._original_bytes[chosen].sum())
        return float(nats[chosen].sum() / math.log(2) / total_bytes)
