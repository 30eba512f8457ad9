"""Rows of tokens for training, in an order that depends on the seed and the documents only.

Every epoch permutes the documents by (seed, epoch) and lays them end to end. Row r holds the tokens
from r × context up to (r + 1) × context of this endless stream, and the token after them.
Conditions have the same documents, so with one seed they see the same documents in the same order.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import numpy as np

from common.errors import PipelineError
from model.tokens.shards import TokenSplit

T = TypeVar("T")


class TrainingRows:
    def __init__(self, split: TokenSplit, context: int, seed: int):
        self._split, self._context, self._seed = split, context, seed
        self._tokens_per_epoch = int(split.lengths.sum())
        self._order = lru_cache(maxsize=2)(
            self._permuted
        )  # of this epoch, and of the next one while it is read ahead
        if context >= self._tokens_per_epoch:
            raise PipelineError(
                f"model.context ({context}) must be below the {self._tokens_per_epoch} tokens of "
                "the training split"
            )

    def rows(self, first: int, count: int) -> np.ndarray:
        """Return `count` rows from row `first`, int64 (count, context + 1).

        Neighbours overlap by one token.
        """
        start = first * self._context
        stream = self._tokens(start, start + count * self._context + 1)
        windows = np.lib.stride_tricks.sliding_window_view(stream, self._context + 1)
        return windows[:: self._context].astype(np.int64)

    def original_bytes(self, tokens: int) -> int:
        """Return how many bytes of original text the stream's first `tokens` tokens stand for.

        A document that is cut counts in proportion to its tokens.
        """
        epochs, rest = divmod(tokens, self._tokens_per_epoch)
        order, ends = self._order(epochs)
        whole = int(np.searchsorted(ends, rest, side="right"))
        seen = epochs * int(self._split.original_bytes.sum()) + int(
            self._split.original_bytes[order[:whole]].sum()
        )
        if whole < len(order):
            cut = order[whole]
            inside = rest - (int(ends[whole - 1]) if whole else 0)
            seen += int(self._split.original_bytes[cut]) * inside // int(self._split.lengths[cut])
        return seen

    def _tokens(self, start: int, stop: int) -> np.ndarray:
        parts = []
        while start < stop:
            epoch, offset = divmod(start, self._tokens_per_epoch)
            order, ends = self._order(epoch)
            place = int(np.searchsorted(ends, offset, side="right"))
            document = self._split.document(order[place])
            skip = offset - (int(ends[place]) - len(document))
            part = document[skip : skip + stop - start]
            parts.append(part)
            start += len(part)
        return np.concatenate(parts)

    def _permuted(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the epoch's documents in order, and the epoch's tokens up to the end of each."""
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._split.lengths))
        return order, np.cumsum(self._split.lengths[order])


def prefetched(make: Callable[[int], T], steps: Iterable[int]) -> Iterator[T]:
    """Yield `make(step)` for each step; a thread makes the next one meanwhile."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = None
        for step in steps:
            following = pool.submit(make, step)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def spread_documents(total: int, count: int) -> np.ndarray:
    """Return `count` document numbers spread evenly over `total`, all where there are fewer.

    Documents stand in the order of their sources: the first ones would be those of a single source.
    """
    return np.arange(min(count, total)) * total // min(count, total)


def validation_rows(
    split: TokenSplit, documents: np.ndarray, context: int
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the documents numbered `documents` end to end and cut them into rows.

    Returns tokens, int64 (rows, context + 1), padded with the last token, and for each target the
    index in `documents` of its document, int64 (rows, context), -1 for padding. The very first
    token is not a target.
    """
    tokens = np.concatenate([split.document(number) for number in documents]).astype(np.int64)
    owners = np.repeat(np.arange(len(documents)), split.lengths[documents])[1:]
    rows = -(-len(owners) // context)
    padding = rows * context - len(owners)
    stream = np.pad(tokens, (0, padding), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(stream, context + 1)[::context]
    return windows.copy(), np.pad(owners, (0, padding), constant_values=-1).reshape(rows, context)
