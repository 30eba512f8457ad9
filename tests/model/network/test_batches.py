import math

import numpy as np
from small_objects import write_token_split

from model.network.batches import spread_documents, validation_rows
from model.tokens.shards import TOKENS


def test_validation_rows_cover_whole_documents_once(tmp_path):
    documents = [[99, *([number] * (number % 5 + 1))] for number in range(20)]
    split, _ = write_token_split(tmp_path / "tokens", documents)
    chosen = spread_documents(20, 7)
    documents, table = split.read(chosen)
    rows, owners = validation_rows(documents, context=4)
    tokens = np.concatenate(documents)
    targets = rows[:, 1:].reshape(-1)
    assert (targets[owners.reshape(-1) >= 0] == tokens[1:]).all()
    assert np.bincount(owners[owners >= 0]).tolist() == [
        table[0, TOKENS] - 1,
        *table[1:, TOKENS],
    ]
    assert math.prod(owners.shape) - (owners >= 0).sum() < 4


def test_validation_documents_are_spread_over_the_split():
    assert spread_documents(20, 7).tolist() == [0, 2, 5, 8, 11, 14, 17]
    assert spread_documents(3, 7).tolist() == [0, 1, 2]
