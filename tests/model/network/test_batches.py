import math
import threading

import numpy as np
import pytest
from small_objects import write_token_split

from common.errors import PipelineError
from model.network.batches import TrainingRows, prefetched, spread_documents, validation_rows
from model.tokens.shards import TokenSplit

EOT = 99


def documents(count: int) -> list[list[int]]:
    return [[EOT, *([number] * (number % 5 + 1))] for number in range(count)]


@pytest.fixture
def split(tmp_path) -> TokenSplit:
    return write_token_split(tmp_path / "tokens", documents(20))[0]


def test_rows_lay_the_stream_end_to_end_and_share_one_token(split):
    rows = TrainingRows(split, context=4, seed=0)
    together = rows.rows(0, 12)
    assert together.shape == (12, 5)
    assert (together[1:, 0] == together[:-1, -1]).all()
    assert (np.concatenate([rows.rows(n, 1) for n in range(12)]) == together).all(), (
        "rows do not depend on the batch"
    )


def test_every_epoch_holds_each_document_once_in_another_order(split):
    tokens = int(split.lengths.sum())
    stream = TrainingRows(split, context=1, seed=3).rows(0, 3 * tokens)[:, 0]
    epochs = [stream[n * tokens : (n + 1) * tokens].tolist() for n in range(3)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(epochs[2])
    assert epochs[0] != epochs[1] != epochs[2]
    assert all(epoch[0] == EOT for epoch in epochs)


def test_the_seed_decides_the_order_of_documents_in_every_condition(tmp_path):
    def order(lengths: list[int], seed: int) -> list[int]:
        split, _ = write_token_split(
            tmp_path / f"{lengths}{seed}", [[EOT, *[n] * k] for n, k in enumerate(lengths)]
        )
        stream = TrainingRows(split, 1, seed).rows(0, int(split.lengths.sum()))[:, 0]
        return [
            int(token) for token, before in zip(stream[1:], stream, strict=False) if before == EOT
        ]

    assert order([3] * 9, seed=5) == order([2] * 9, seed=5) != order([3] * 9, seed=6)


def test_a_context_longer_than_the_training_tokens_is_refused(split):
    with pytest.raises(PipelineError, match=r"model\.context \(2000\) must be below the"):
        TrainingRows(split, context=2000, seed=0)


def test_original_bytes_grow_with_tokens_and_add_up(split):
    rows = TrainingRows(split, context=4, seed=0)
    epoch = int(split.lengths.sum())
    seen = [rows.original_bytes(tokens) for tokens in range(2 * epoch + 1)]
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[epoch] == split.original_bytes.sum()
    assert seen[2 * epoch] == 2 * split.original_bytes.sum()


def test_validation_rows_cover_whole_documents_once(split):
    chosen = spread_documents(20, 7)
    rows, owners = validation_rows(split, chosen, context=4)
    tokens = np.concatenate([split.document(n) for n in chosen])
    targets = rows[:, 1:].reshape(-1)
    assert (targets[owners.reshape(-1) >= 0] == tokens[1:]).all()
    assert np.bincount(owners[owners >= 0]).tolist() == [
        split.lengths[0] - 1,
        *split.lengths[chosen[1:]],
    ]
    assert math.prod(owners.shape) - (owners >= 0).sum() < 4


def test_validation_documents_are_spread_over_the_split():
    assert spread_documents(20, 7).tolist() == [0, 2, 5, 8, 11, 14, 17]
    assert spread_documents(3, 7).tolist() == [0, 1, 2]


def test_batches_are_made_one_ahead_and_come_in_order():
    made, ahead = [], threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if step == 4:
            ahead.set()
        return step * 10

    batches = prefetched(make, range(3, 6))
    assert next(batches) == 30
    assert ahead.wait(timeout=60), "nobody has asked for it"
    assert made == [3, 4]
    assert list(batches) == [40, 50]
    assert made == [3, 4, 5]
    assert list(prefetched(make, range(0))) == []


def test_an_error_of_the_thread_that_reads_ahead_arrives():
    def make(step: int) -> int:
        if step == 2:
            raise PipelineError("the second is broken")
        return step

    batches = prefetched(make, range(1, 4))
    assert next(batches) == 1
    with pytest.raises(PipelineError, match="the second is broken"):
        next(batches)


def test_bytes_are_counted_while_a_thread_is_already_in_the_next_epoch(split):
    """Both ask for the order of an epoch, and neither may be given the other's."""
    alone = TrainingRows(split, context=4, seed=0)
    expected = [
        (alone.rows(step, 1).tolist(), alone.original_bytes(4 * step)) for step in range(200)
    ]
    rows = TrainingRows(split, context=4, seed=0)
    read = prefetched(lambda step: rows.rows(step, 1).tolist(), range(200))
    assert [(row, rows.original_bytes(4 * step)) for step, row in enumerate(read)] == expected
