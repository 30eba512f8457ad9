"""What scoring leaves of each item, and the metrics made from it."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.errors import PipelineError, printable
from common.files import read_jsonl
from model.statistics.rates import rate
from model.tasks.wordings import Convention


class ItemScore(NamedTuple):
    """One item's result; lists run over its endings: negative log-likelihood in nats, tokens, characters, bytes.

    Characters are the ending's own, as lm-evaluation-harness counts them; tokens and bytes include the space before it, and
    count only what was scored of an ending longer than the model's context.
    """

    ind: int
    source_id: str
    label: int
    nats: list[float]
    tokens: list[int]
    characters: list[int]
    bytes: list[int]


def read_scores(path: Path) -> list[ItemScore]:
    """Return the scores of one task as the evaluate stage keeps them, a line for each item."""
    try:
        return [ItemScore(**row) for row in read_jsonl(path)]
    except TypeError as error:
        raise PipelineError(
            f"{path}: not the evaluate stage's scores ({printable(str(error))})"
        ) from None


def summarize(scores: list[ItemScore], convention: Convention) -> dict:
    """Return the metrics of items scored by `convention`.

    acc: the lowest total is the true ending's; acc_norm: the lowest total per token or per character, as the convention has
    it. gold_bits_per_byte is the total of the true endings' bits over the total of their bytes.
    """
    nats = np.array([score.nats for score in scores])
    lengths = np.array([getattr(score, convention.acc_norm_by) for score in scores])
    labels = np.array([score.label for score in scores])
    clusters = [score.source_id for score in scores]

    def accuracy(values: np.ndarray) -> dict:
        return rate(values.argmin(axis=1) == labels, clusters)._asdict()

    gold = np.arange(len(scores)), labels
    gold_bytes = np.array([score.bytes for score in scores])[gold].sum()
    return {
        "acc": accuracy(nats),
        "acc_norm": accuracy(nats / lengths),
        "gold_bits_per_byte": float(nats[gold].sum() / np.log(2) / gold_bytes),
    }
