"""The validation loss on a fixed sample of whole held-out documents, the same in all conditions."""

import math

import numpy as np
import torch

from common.errors import PipelineError
from model.network.batches import spread_documents, validation_rows
from model.network.gpt import GPT, seen_in_document
from model.numerics.side_by_side import SideBySide
from model.pretraining.document_losses import DocumentLoss
from model.pretraining.losses import token_losses
from model.runtime.distributed import Processes
from model.tokens.shards import ORIGINAL_BYTES, SOURCE, TokenSplit


class Validation:
    def __init__(
        self,
        split: TokenSplit,
        documents: int,
        context: int,
        drill_source: str,
        within_documents: bool = False,
    ):
        """Choose the documents; raises PipelineError if all of them are drills.

        `within_documents`: tokens attend within their documents only.
        """
        self._numbers = spread_documents(int(split.documents.sum()), documents)
        chosen, table = split.read(self._numbers)
        self._sources = [split.index.sources[number] for number in table[:, SOURCE].tolist()]
        self._rows, self._owners = validation_rows(chosen, context)
        self._end_of_text = int(chosen[0][0]) if within_documents else None
        self._original_bytes = table[:, ORIGINAL_BYTES]
        drill = (
            split.index.sources.index(drill_source) if drill_source in split.index.sources else -1
        )
        self._is_drill = table[:, SOURCE] == drill
        if self._is_drill.all():
            raise PipelineError(
                f"pretrain: all of the {len(chosen)} validation documents are drills; "
                "raise pretrain.validation_documents"
            )

    def score(
        self, model: GPT, rows_per_batch: int, processes: Processes, side_by_side: SideBySide
    ) -> tuple[float, float, float | None]:
        """Return the `figures` of `model`."""
        return self.figures(self.nats(model, rows_per_batch, processes, side_by_side))

    def nats(
        self, model: GPT, rows_per_batch: int, processes: Processes, side_by_side: SideBySide
    ) -> np.ndarray:
        """Return the loss of each document, float64 (documents,).

        The nats of an end-of-text token count for the document after it, so that none is lost.
        Computed in float32 whatever the dtype of training. `processes` share the rows, and
        `side_by_side` computes batches of them.
        """
        of_tokens = np.zeros(self._owners.shape)

        @torch.no_grad()
        def score_rows(start: int) -> None:
            rows = torch.from_numpy(self._rows[start : start + rows_per_batch])
            rows = rows.to(model.lm_head.weight.device)
            inputs = rows[:, :-1]
            seen = seen_in_document(inputs, self._end_of_text)
            hidden = model.last_hidden_state(inputs, seen).flatten(0, 1)
            losses = token_losses(hidden, model.lm_head.weight, rows[:, 1:].flatten())
            of_tokens[start : start + len(rows)] = losses.view(len(rows), -1).double().cpu()

        starts = range(0, len(self._rows), rows_per_batch)
        side_by_side.map(score_rows, starts[processes.rank :: processes.count])
        # Each token is one process's, so that this sum rounds nothing; then in the order of text.
        of_tokens = processes.total(of_tokens)
        owned = self._owners >= 0
        nats = np.zeros(len(self._original_bytes))
        np.add.at(nats, self._owners[owned], of_tokens[owned])
        return nats

    def figures(self, nats: np.ndarray) -> tuple[float, float, float | None]:
        """Return mean loss in nats per token, bits per byte of natural text, and of drills.

        The last is None if the sample has no drills.
        """
        targets = int((self._owners >= 0).sum())
        text = self._bits_per_byte(nats, ~self._is_drill)
        drills = self._bits_per_byte(nats, self._is_drill) if self._is_drill.any() else None
        return float(nats.sum() / targets), text, drills

    def _bits_per_byte(self, nats: np.ndarray, chosen: np.ndarray) -> float:
        total_bytes = int(self._original_bytes[chosen].sum())
        return float(nats[chosen].sum() / math.log(2) / total_bytes)

    def by_document(self, nats: np.ndarray) -> list[DocumentLoss]:
        """Return a row for each document, in the order of the split."""
        columns = self._numbers.tolist(), self._sources, self._original_bytes.tolist()
        return [DocumentLoss(*row) for row in zip(*columns, nats.tolist(), strict=True)]
