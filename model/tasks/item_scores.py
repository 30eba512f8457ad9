"""The scores of each item, and the figures computed from them: acc, acc_norm, bits per byte.

Example: an item's three endings cost 12, 9 and 10 nats and have 6, 3 and 4 tokens. acc chooses the
second (9 is the lowest), acc_norm by tokens the first (12 / 6 = 2, against 3 and 2.5).
"""

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
    """One item's result. Each list has a value for each of the item's endings."""

    # The item's number, its cluster (model/statistics/rates.py) and the number of its true ending.
    ind: int
    source_id: str
    label: int
    # -log p of all tokens of the ending together
    nats: list[float]
    # Tokens and UTF-8 bytes, with the space before the ending. Of an ending that is longer than the
    # model's context they count the part that was scored.
    tokens: list[int]
    # Without the space, as lm-evaluation-harness counts them.
    characters: list[int]
    bytes: list[int]


def read_scores(path: Path) -> list[ItemScore]:
    """Return the scores of one task from the evaluate stage's file, one line for each item.

    Raises PipelineError if a line has other fields.
    """
    try:
        return [ItemScore(**row) for row in read_jsonl(path)]
    except TypeError as error:
        raise PipelineError(
            f"{path}: not the evaluate stage's scores ({printable(str(error))})"
        ) from None


def is_acc_right(scores: list[ItemScore]) -> NDArray[np.bool_]:
    """Return for each item whether its true ending has the lowest total: (items,) bool."""
    right: NDArray[np.bool_] = _totals(scores).argmin(axis=1) == _labels(scores)
    return right


def is_acc_norm_right(scores: list[ItemScore], wording: Wording) -> NDArray[np.bool_]:
    """Return for each item whether its true ending has the lowest total per unit: (items,) bool.

    The unit is a token or a character, as in the program from which the wording is taken.
    """
    # 1 where an item has no ending: infinity / 1 is never the lowest.
    lengths = _padded([getattr(score, wording.acc_norm_by) for score in scores], 1)
    right: NDArray[np.bool_] = (_totals(scores) / lengths).argmin(axis=1) == _labels(scores)
    return right


def chance(scores: list[ItemScore]) -> float:
    """Return the accuracy of guessing: the mean of 1 / endings over the items, from 0 to 1."""
    return float(np.mean([1 / len(score.nats) for score in scores]))


def gold_nats_and_bytes(
    scores: list[ItemScore],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return for the true ending of each item its nats and its bytes: two arrays of (items,)."""
    # Row i and column labels[i].
    gold = np.arange(len(scores)), _labels(scores)
    return _totals(scores)[gold], np.array([score.bytes[score.label] for score in scores])


def summarize(scores: list[ItemScore], wording: Wording) -> dict[str, Any]:
    """Return the metrics of items that were asked in `wording`.

    acc and acc_norm are rates with intervals (model/statistics/rates.py), chance is the accuracy of
    guessing. gold_bits_per_byte is the sum of the true endings' bits over the sum of their bytes,
    so a long ending weighs more than a short one.
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
    """Return nats as (items, most endings), infinity where an item has fewer endings."""
    return _padded([score.nats for score in scores], np.inf)


def _padded(rows: Sequence[Sequence[float]], filling: float) -> NDArray[np.float64]:
    """Return `rows` as (rows, longest row); [[1, 2], [3]] with 0 becomes [[1, 2], [3, 0]]."""
    most = max(map(len, rows))
    return np.array([[*row, *[filling] * (most - len(row))] for row in rows], dtype=np.float64)


def _labels(scores: list[ItemScore]) -> NDArray[np.int64]:
    return np.array([score.label for score in scores])  # (items,)
