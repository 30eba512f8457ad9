"""Batches of trees as arrays: each token read is a row, and masks tell who attends to whom.

Trees of one shape form a group. Attention is computed in the group's shape, which is each tree's
own whatever else is in the batch, so the same numbers are added in the same order
(model/scoring/network.py). A tree begins at a multiple of ROWS_TOGETHER, for the same reason.
"""

from itertools import groupby
from typing import NamedTuple

import numpy as np

from model.scoring.prefix_trees import Tree

# OpenBLAS's Haswell kernels compute the rows of a product twelve at a time, and add a row's terms
# in an order that depends on its place among the twelve.
ROWS_TOGETHER = 12


class Queries(NamedTuple):
    """The attending rows' numbers, and the places of the group's results; int64.

    `contexts` is (trees, C) or (trees, 1), `endings` (trees, N, E); padding repeats row 0.
    `results` (rows,) has for each row in order its place among the slots of `contexts`, followed by
    those of `endings`.
    """

    contexts: np.ndarray
    endings: np.ndarray
    results: np.ndarray


class Group(NamedTuple):
    """Trees of one shape (N, C, E).

    `lengths` (trees,) are those of the contexts. `everyone` are the queries of all rows,
    `predictors` those of the predicting rows only, numbered among the batch's predicting rows.
    """

    lengths: np.ndarray
    everyone: Queries
    predictors: Queries


class Packed(NamedTuple):
    """A batch; a token with which several endings of a tree begin is one row.

    Rows and predictions that fill a tree up to a multiple of ROWS_TOGETHER are no token's; nothing
    reads their results.

    `tokens` and `positions` are (rows,). `predicting` (predictions,) are the rows whose next token
    is scored. `targets`, `predicted_by` and `ending` (scored tokens,) are the token, its index in
    `predicting`, and the number of its ending in the batch. They are in order of `predicted_by`,
    and so, within an ending, in order of the text.
    """

    tokens: np.ndarray
    positions: np.ndarray
    predicting: np.ndarray
    targets: np.ndarray
    predicted_by: np.ndarray
    ending: np.ndarray
    groups: list[Group]


def batches(trees: list[Tree], batch_tokens: int, workers: int) -> list[list[Tree]]:
    """Group trees, given in order of size, so that their padded tokens stay within `batch_tokens`.

    Batches are smaller if `workers` would otherwise get fewer than two each and wait for the last.
    """
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
    count, context, ending = tree.shape
    return context + count * ending


def by_size(trees: list[Tree]) -> list[Tree]:
    """Return trees with the largest first and those of one shape together."""
    return sorted(trees, key=lambda tree: (tree.shape, len(tree.context)), reverse=True)


class _Rows:
    """The rows of a batch as they are added."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.predicting: list[int] = []
        self.targets: list[int] = []
        self.predicted_by: list[int] = []
        self.ending: list[int] = []
        self.endings = 0

    def read(self, tokens: list[int], position: int) -> range:
        first = len(self.tokens)
        self.tokens += tokens
        self.positions += range(position, position + len(tokens))
        return range(first, len(self.tokens))

    def fill(self) -> tuple[int, int]:
        """Fill rows and predictions up to whole ones; return how many of each were added."""
        rows, predictions = (
            -len(filled) % ROWS_TOGETHER for filled in (self.tokens, self.predicting)
        )
        self.read([0] * rows, 0)
        self.predicting += [0] * predictions
        return rows, predictions

    def score(self, ending: list[int], predicted_by: list[int]) -> None:
        self.targets += ending
        self.predicted_by += predicted_by
        self.ending += [self.endings] * len(ending)
        self.endings += 1


def pack(trees: list[Tree]) -> Packed:
    """Pack a batch in which trees of one shape follow each other."""
    rows = _Rows()
    groups = [
        _group(rows, list(members)) for _, members in groupby(trees, key=lambda tree: tree.shape)
    ]
    predicted_by = _array(rows.predicted_by)
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
    count, context_slots, ending_slots = trees[0].shape
    contexts = np.zeros((len(trees), context_slots), dtype=np.int64)
    lasts = np.zeros((len(trees), 1), dtype=np.int64)
    endings = np.zeros(
        (2, len(trees), count, ending_slots), dtype=np.int64
    )  # among all rows, and among the predicting
    results: list[int] = []
    predictor_results: list[int] = []
    for number, tree in enumerate(trees):
        read = rows.read(tree.context, 0)
        contexts[number, : len(read)] = read
        results += range(number * context_slots, number * context_slots + len(read))
        last = read[-1]
        lasts[number] = first = len(rows.predicting)  # every row from `last` on predicts
        predictor_results.append(number)
        branches: list[list[int]] = []
        for which, ending in enumerate(tree.endings):
            branch = _shared(ending, tree.endings, branches)
            slot = (number * count + which) * ending_slots + len(branch)
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
            rows.score(ending, [first, *predictors])
        rows.predicting += range(last, len(rows.tokens))
        filling, predictors_filling = rows.fill()
        results += [0] * filling
        predictor_results += [0] * predictors_filling
    return Group(
        lengths=_array([len(tree.context) for tree in trees]),
        everyone=Queries(contexts, endings[0], _array(results)),
        predictors=Queries(lasts, endings[1], _array(predictor_results)),
    )


def _shared(ending: list[int], endings: list[list[int]], branches: list[list[int]]) -> list[int]:
    """Return the longest run of rows that `ending` can reuse from one of `branches`.

    `branches` are the rows of the earlier `endings`. The last token of an ending is never read.
    """
    best: list[int] = []
    for branch, earlier in zip(branches, endings, strict=False):
        length = 0
        while length < min(len(ending) - 1, len(branch)) and ending[length] == earlier[length]:
            length += 1
        if length > len(best):
            best = branch[:length]
    return best


def _array(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)
