"""Batches of trees as arrays: each token that the network reads is a row.

Example: a tree with context [c0 c1 c2] and endings [x y z] and [x w]. The last token of an ending
is scored but never read, and both endings share the row of x:

    row          0   1   2   3   4   5 … 11
    token       c0  c1  c2   x   y   0 …  0    rows 5 … 11 fill the tree up to twelve
    position     0   1   2   3   4
    predicting           2   3   4             rows whose next token is scored
    targets              x   y   z             of ending 0
                         x   w                 of ending 1

Trees of one shape form a group, and attention is computed in the group's shape. A tree's shape is
its own in every batch, so the same numbers are added in the same order (model/scoring/network.py).
A tree begins at a multiple of ROWS_TOGETHER for the same reason.
"""

from itertools import groupby
from typing import NamedTuple

import numpy as np

from model.scoring.prefix_trees import Tree

# OpenBLAS's Haswell kernels compute the rows of a product twelve at a time. The order in which they
# add a row's terms depends on the row's place among the twelve. A tree that begins at row 24 or 36
# keeps every row's place; one that begins at row 29 could have other last bits in its results.
ROWS_TOGETHER = 12


class Queries(NamedTuple):
    """Which rows attend, laid out by slots, and how to read the results back by rows. All int64.

    A slot of padding holds row 0; its result is never read.

    In the example above with C = E = 16, `everyone` is

        contexts   [[0 1 2 0 … 0]]                    16 slots: rows of the context
        endings    [[[3 4 0 … 0], [3 0 0 … 0]]]       16 slots for each ending
        results    [0 1 2 16 17 0 … 0]                rows 3 and 4 are slots 16 and 17
    """

    # (T, C), or (T, 1) where only the context's last row predicts
    contexts: np.ndarray
    # (T, N, E)
    endings: np.ndarray
    # (rows,): each row's place among the slots of `contexts` followed by those of `endings`
    results: np.ndarray


class Group(NamedTuple):
    """T trees of one shape: N endings, contexts of C slots, endings of E slots."""

    # (T,): tokens of each context, at most C
    lengths: np.ndarray
    # The queries of all rows; numbers are rows of the batch.
    everyone: Queries
    # The queries of the last block; numbers are indices into `Packed.predicting`.
    predictors: Queries


class Packed(NamedTuple):
    """A batch. Tokens with which several endings of a tree begin are stored once.

    Rows and predictions that fill a tree up to a multiple of ROWS_TOGETHER hold no token. Their
    results are never read. All arrays are int64.
    """

    # (rows,): token ids and their positions
    tokens: np.ndarray
    positions: np.ndarray
    # (predictions,): numbers of the rows whose next token is scored
    predicting: np.ndarray
    # (scored tokens,): the token, the index in `predicting` of the row before it, and the number of
    # its ending in the batch. Sorted by `predicted_by`, so an ending's tokens keep their order.
    # In the example: targets [x x y w z], predicted_by [0 0 1 1 2], ending [0 1 0 1 0].
    targets: np.ndarray
    predicted_by: np.ndarray
    ending: np.ndarray
    groups: list[Group]


def batches(trees: list[Tree], batch_tokens: int, workers: int) -> list[list[Tree]]:
    """Split trees, sorted by size, into batches of at most `batch_tokens` padded tokens.

    A tree larger than `batch_tokens` is a batch of its own. Batches are smaller where each of the
    `workers` threads would otherwise get fewer than two, since all wait for the slowest.
    """
    # -(-a // b) rounds a / b up.
    bound = min(batch_tokens, -(-sum(map(padded_tokens, trees)) // (2 * workers)))
    result: list[list[Tree]] = []
    room = 0
    for tree in trees:
        if not result or room < padded_tokens(tree):
            result.append([])
            room = bound
        result[-1].append(tree)
        room -= padded_tokens(tree)
    return result


def padded_tokens(tree: Tree) -> int:
    """Return C + N × E, the tree's slots in its group's attention."""
    count, context, ending = tree.shape
    return context + count * ending


def by_size(trees: list[Tree]) -> list[Tree]:
    """Return `trees` with the largest shape first and equal shapes together."""
    return sorted(trees, key=lambda tree: (tree.shape, len(tree.context)), reverse=True)


class _Rows:
    """The growing lists of a batch. `Packed` describes them."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.predicting: list[int] = []
        self.targets: list[int] = []
        self.predicted_by: list[int] = []
        self.ending: list[int] = []
        self.endings = 0

    def read(self, tokens: list[int], position: int) -> range:
        """Add a row for each of `tokens`, the first at `position`; return the rows' numbers."""
        first = len(self.tokens)
        self.tokens += tokens
        self.positions += range(position, position + len(tokens))
        return range(first, len(self.tokens))

    def fill(self) -> tuple[int, int]:
        """Fill rows and predictions to multiples of ROWS_TOGETHER; return how many were added."""
        rows, predictions = (
            -len(filled) % ROWS_TOGETHER for filled in (self.tokens, self.predicting)
        )
        self.read([0] * rows, 0)
        self.predicting += [0] * predictions
        return rows, predictions

    def score(self, ending: list[int], predicted_by: list[int]) -> None:
        """Add the tokens of the next ending as targets of the predictions `predicted_by`."""
        self.targets += ending
        self.predicted_by += predicted_by
        self.ending += [self.endings] * len(ending)
        self.endings += 1


def pack(trees: list[Tree]) -> Packed:
    """Pack a batch in which trees of one shape follow each other, as `by_size` sorts them."""
    rows = _Rows()
    groups = [
        _group(rows, list(members)) for _, members in groupby(trees, key=lambda tree: tree.shape)
    ]
    predicted_by = _array(rows.predicted_by)
    # Stable: of two endings with the same first row, the earlier stays first.
    order = np.argsort(predicted_by, kind="stable")
    return Packed(
        tokens=_array(rows.tokens),
        positions=_array(rows.positions),
        predicting=_array(rows.predicting),
        targets=_array(rows.targets)[order],
        predicted_by=predicted_by[order],
        ending=_array(rows.ending)[order],
        groups=groups,
    )


def _group(rows: _Rows, trees: list[Tree]) -> Group:
    """Add the rows of `trees`, all of one shape, and return their group."""
    # N, C, E
    count, context_slots, ending_slots = trees[0].shape
    contexts = np.zeros((len(trees), context_slots), dtype=np.int64)
    # The last row of each context, numbered among the predicting rows: the last block's only
    # query of a context.
    lasts = np.zeros((len(trees), 1), dtype=np.int64)
    # (2, T, N, E): numbers among all rows, and among the predicting rows
    endings = np.zeros((2, len(trees), count, ending_slots), dtype=np.int64)
    results: list[int] = []
    predictor_results: list[int] = []
    for number, tree in enumerate(trees):
        read = rows.read(tree.context, 0)
        contexts[number, : len(read)] = read
        results += range(number * context_slots, number * context_slots + len(read))
        last = read[-1]
        # Every row from `last` on predicts: row r is prediction first + r - last.
        lasts[number] = first = len(rows.predicting)
        predictor_results.append(number)
        # For each ending so far, the rows of its tokens but the last.
        branches: list[list[int]] = []
        for which, ending in enumerate(tree.endings):
            branch = _shared(ending, tree.endings, branches)
            # The ending's first slot that holds a new row, counted over all endings of the group.
            # Shared rows have their place already, in the ending that added them.
            slot = (number * count + which) * ending_slots + len(branch)
            # `[: -1]`: the last token is scored, never read.
            new = rows.read(ending[len(branch) : -1], len(tree.context) + len(branch))
            results += range(
                len(trees) * context_slots + slot, len(trees) * context_slots + slot + len(new)
            )
            predictor_results += range(len(trees) + slot, len(trees) + slot + len(new))
            branch = [*branch, *new]
            branches.append(branch)
            predictors = [first + row - last for row in branch]
            endings[0, number, which, : len(branch)] = branch
            endings[1, number, which, : len(branch)] = predictors
            # The context's last row predicts the ending's first token, and so on.
            rows.score(ending, [first, *predictors])
        rows.predicting += range(last, len(rows.tokens))
        filling, predictors_filling = rows.fill()
        # Filled rows need some place; slot 0 will do, since nothing reads their results.
        results += [0] * filling
        predictor_results += [0] * predictors_filling
    return Group(
        lengths=_array([len(tree.context) for tree in trees]),
        everyone=Queries(contexts, endings[0], _array(results)),
        predictors=Queries(lasts, endings[1], _array(predictor_results)),
    )


def _shared(ending: list[int], endings: list[list[int]], branches: list[list[int]]) -> list[int]:
    """Return the rows of the longest start that `ending` has in common with an earlier one.

    `branches` are the rows of the earlier `endings`; the last token of an ending has no row.
    After [x y z] with rows [3 4], ending [x w] reuses [3], and ending [x] nothing.
    """
    best: list[int] = []
    # Not strict: `branches` ends before `ending`'s own place in `endings`.
    for branch, earlier in zip(branches, endings, strict=False):
        length = 0
        while length < min(len(ending) - 1, len(branch)) and ending[length] == earlier[length]:
            length += 1
        if length > len(best):
            best = branch[:length]
    return best


def _array(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)
