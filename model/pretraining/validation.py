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
    """The fixed validation sample of one split: its rows, and the document of each target."""

    def __init__(
        self,
        split: TokenSplit,
        documents: int,
        context: int,
        drill_source: str,
        within_documents: bool = False,
    ):
        """Choose `documents` documents spread over the split.

        With `within_documents`, tokens attend within their own documents only. Raises PipelineError
        if all chosen documents are drills.
        """
        self._numbers = spread_documents(int(split.documents.sum()), documents)
        chosen, table = split.read(self._numbers)
        self._sources = [split.index.sources[number] for number in table[:, SOURCE].tolist()]
        # int64 (rows, context + 1) and (rows, context); see validation_rows.
        self._rows, self._owners = validation_rows(chosen, context)
        # Every document begins with end of text, so the first id of the first one is it.
        self._end_of_text = int(chosen[0][0]) if within_documents else None
        self._original_bytes = table[:, ORIGINAL_BYTES]
        # -1 matches no document, if the corpus has no drills.
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
        """Return `model`'s loss, bits per byte of text and of drills; see `figures`."""
        return self.figures(self.nats(model, rows_per_batch, processes, side_by_side))

    def nats(
        self, model: GPT, rows_per_batch: int, processes: Processes, side_by_side: SideBySide
    ) -> np.ndarray:
        """Return the loss of each document in nats, float64 (documents,).

        The nats of an end-of-text token count for the document that it begins, so the documents'
        nats add up to those of all targets. Losses are computed in float32 whatever the dtype of
        training. `processes` share the rows, and `side_by_side` computes several batches at a time.
        """
        # (rows, context): the loss of each target; zero where another process computes it.
        of_tokens = np.zeros(self._owners.shape)

        @torch.no_grad()
        def score_rows(start: int) -> None:
            rows = torch.from_numpy(self._rows[start : start + rows_per_batch])
            rows = rows.to(model.lm_head.weight.device)
            inputs = rows[:, :-1]
            seen = seen_in_document(inputs, self._end_of_text)
            # (rows × context, width)
            hidden = model.last_hidden_state(inputs, seen).flatten(0, 1)
            losses = token_losses(hidden, model.lm_head.weight, rows[:, 1:].flatten())
            of_tokens[start : start + len(rows)] = losses.view(len(rows), -1).double().cpu()

        starts = range(0, len(self._rows), rows_per_batch)
        side_by_side.map(score_rows, starts[processes.rank :: processes.count])
        # For each token one process has its loss and the others zero, so this sum rounds nothing.
        # The sums by document below add in the order of the text, for any number of processes.
        of_tokens = processes.total(of_tokens)
        owned = self._owners >= 0
        nats = np.zeros(len(self._original_bytes))
        # Unlike `nats[owners] += …`, add.at adds every token of a document. Padding has no owner.
        np.add.at(nats, self._owners[owned], of_tokens[owned])
        return nats

    def figures(self, nats: np.ndarray) -> tuple[float, float, float | None]:
        """Return mean loss in nats per token, bits per byte of natural text, and of drills.

        `nats` is float64 (documents,). The last figure is None if the sample has no drills.
        """
        targets = int((self._owners >= 0).sum())
        text = self._bits_per_byte(nats, ~self._is_drill)
        drills = self._bits_per_byte(nats, self._is_drill) if self._is_drill.any() else None
        return float(nats.sum() / targets), text, drills

    def _bits_per_byte(self, nats: np.ndarray, chosen: np.ndarray) -> float:
        # Bits per byte = nats / ln 2 / bytes of original UTF-8, so tokenizers can be compared.
        total_bytes = int(self._original_bytes[chosen].sum())
        return float(nats[chosen].sum() / math.log(2) / total_bytes)

    def by_document(self, nats: np.ndarray) -> list[DocumentLoss]:
        """Return a row for each document, in the order of the split."""
        columns = self._numbers.tolist(), self._sources, self._original_bytes.tolist()
        return [DocumentLoss(*row) for row in zip(*columns, nats.tolist(), strict=True)]
