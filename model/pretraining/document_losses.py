"""Losses of single validation documents: `pretrain` writes documents.csv, `compare` reads it."""

import csv
import math
from pathlib import Path
from typing import NamedTuple

from common.errors import PipelineError
from common.files import verified


class DocumentLoss(NamedTuple):
    """One row of documents.csv: a validation document's loss in nats, and its original bytes.

    `document` is its number in the validation split. `nats` is the sum over its tokens, the
    end-of-text token before it included.
    """

    document: int
    source: str
    original_bytes: int
    nats: float


def read_document_losses(path: Path) -> list[DocumentLoss]:
    """Return the rows of one run's documents.csv.

    Raises PipelineError, which names the file, if it is missing, damaged, empty or not finite.
    """
    try:
        with open(verified(path), encoding="utf-8", newline="") as file:
            rows = [
                DocumentLoss(
                    int(row["document"]),
                    row["source"],
                    int(row["original_bytes"]),
                    float(row["nats"]),
                )
                for row in csv.DictReader(file)
            ]
        if not rows or not all(math.isfinite(row.nats) for row in rows):
            raise ValueError("no rows, or a loss that is not finite")
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: not the losses of the pretrain stage ({error!r}); run dvc repro pretrain"
        ) from None
    return rows
