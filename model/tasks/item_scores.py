"""The scores of each item, and the figures made of them: acc, acc_norm, bits per byte."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import PipelineError, printable
from common.files import read_jsonl
from model.statistics.rates import rate
from model.tasks.wordings import Wording


class ItemScore(NamedTuple):
    """One item's result; lists run over its endings: nats of negative log-likelihood, and counts.

    Characters are the ending's own, as lm-evaluation-harness counts them. Tokens and bytes include
    the space before it; of an ending longer than the model's context they count what was scored.
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


def is_acc_right(scores: list[ItemScore]) -> NDArray[np.bool_]:
    """Return for each item whether its true ending has the lowest total of all endings."""
    right: NDArray[np.bool_] = _totals(scores).argmin(axis=1) == _labels(scores)
    return right


def is_acc_norm_right(scores: list[ItemScore], wording: Wording) -> NDArray[np.bool_]:
    """Return for each item whether its true ending has the lowest total per unit of length.

    The unit is a token or a character, as the wording's source has it.
    """
    lengths = _padded([getattr(score, wording.acc_norm_by) for score in scores], 1)
    right: NDArray[np.bool_] = (_totals(scores) / lengths).argmin(axis=1) == _labels(scores)
    return right


def chance(scores: list[ItemScore]) -> float:
    """Return the accuracy of guessing: the mean of 1 / endings over the items."""
    return float(np.mean([1 / len(score.nats) for score in scores]))


def gold_nats_and_bytes(
    scores: list[ItemScore],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return each item's total and number of bytes of its true ending."""
    gold = np.arange(len(scores)), _labels(scores)
    return _totals(scores)[gold], np.array([score.bytes[score.label] for score in scores])


def summarize(scores: list[ItemScore], wording: Wording) -> dict[str, Any]:
    """Return the metrics of items that were asked in `wording`.

    gold_bits_per_byte is the total of the true endings' bits over the total of their bytes.
    chance is the accuracy of guessing.
    """
    clusters = [score.source_id for score in scores]
    nats, lengths = gold_nats_and_bytes(scores)
    return {
        "acc": rate(is_acc_right(scores), clusters)._asdict(),
        "acc_norm": rate(is_acc_norm_right(scores, wording), clusters)._asdict(),
        "chance": chance(scores),
        "gold_bits_per_byte": float(nats.sum() / np.log(2) / lengths.sum()),
    }


def _totals(scores: list[ItemScore]) -> NDArray[np.float64]:
    """Return nats (items, most endings); a place without an ending is never the lowest."""
    return _padded([score.nats for score in scores], np.inf)


def _padded(rows: Sequence[Sequence[float]], filling: float) -> NDArray[np.float64]:
    most = max(map(len, rows))
    return np.array([[*row, *[filling] * (most - len(row))] for row in rows], dtype=np.float64)


def _labels(scores: list[ItemScore]) -> NDArray[np.int64]:
    return np.array([score.label for score in scores])  # (items,)
