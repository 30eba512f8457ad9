import threading
import tracemalloc
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from small_objects import write_token_split

from benchmarks.scale import make_split
from common.errors import PipelineError
from model.pretraining.training_rows import TrainingRows, prefetched
from model.tokens.shards import ORIGINAL_BYTES, TokenSplit

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
    tokens = int(split.tokens.sum())
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
        stream = TrainingRows(split, 1, seed).rows(0, int(split.tokens.sum()))[:, 0]
        return [
            int(token) for token, before in zip(stream[1:], stream, strict=False) if before == EOT
        ]

    assert order([3] * 9, seed=5) == order([2] * 9, seed=5) != order([3] * 9, seed=6)


@pytest.fixture
def shards(tmp_path, monkeypatch) -> TokenSplit:
    """A split of 2,000 documents in 100 shards, of which five make a block."""
    monkeypatch.setattr("model.pretraining.training_rows._DOCUMENTS_PER_BLOCK", 100)
    numbered = [[EOT + 3000, number] for number in range(2000)]
    return write_token_split(tmp_path / "shards", numbered, per_shard=20)[0]


def order_of(split: TokenSplit, epoch: int, seed: int = 0) -> np.ndarray:
    """Return the numbers of the documents, which are their second tokens, in an epoch's order."""
    tokens = int(split.tokens.sum())
    return TrainingRows(split, 1, seed).rows(epoch * tokens, tokens)[::2, 1]


def test_every_epoch_of_many_blocks_holds_each_document_once(shards):
    orders = [order_of(shards, epoch) for epoch in range(3)]
    assert all((np.sort(order) == np.arange(2000)).all() for order in orders)
    assert not any((one == another).all() for one, another in pairwise(orders))
    assert (order_of(shards, 1) == orders[1]).all()
    assert (order_of(shards, 1, seed=1) != orders[1]).any()


def test_documents_of_many_blocks_are_shuffled_well(shards):
    """Bounds are four standard deviations from what chance gives."""
    order = order_of(shards, 0)
    position = np.argsort(order)
    # The documents of a shard stay together in a block, so 100 positions are independent.
    assert abs(np.corrcoef(np.arange(2000), position)[0, 1]) < 4 / 100**0.5
    # Of the 20 × 99 pairs of neighbours, 38 in 100 × 99 / 2 are neighbours in the corpus.
    neighbours = int((np.abs(np.diff(order)) == 1).sum())
    assert neighbours < 38 + 4 * 38**0.5
    blocks = order.reshape(20, 100) // 20
    assert [len(np.unique(block)) for block in blocks] == [5] * 20, "five whole shards"
    # Of each shard's 20 documents, half are in the first half of the block.
    early = np.array([np.unique(block[:50], return_counts=True)[1] for block in blocks])
    assert early.shape == (20, 5)
    assert np.abs(early - 10).max() < 4 * (20 * 0.25 * 80 / 99) ** 0.5


def test_shards_meet_other_shards_in_each_epoch(shards):
    def together(epoch: int) -> set[frozenset[int]]:
        blocks = order_of(shards, epoch).reshape(20, 100) // 20
        pairs = [combinations(np.unique(block).tolist(), 2) for block in blocks]
        return {frozenset(pair) for block in pairs for pair in block}

    first, second = together(0), together(1)
    assert len(first) == len(second) == 20 * 10
    # 200 of the 4,950 pairs of shards share a block: 8 do so twice by chance.
    assert len(first & second) < 8 + 4 * 8**0.5


def test_a_split_of_one_block_has_one_order_in_any_shards(tmp_path):
    numbered = [[EOT + 3000, number] for number in range(100)]
    one, _ = write_token_split(tmp_path / "one", numbered)
    many, _ = write_token_split(tmp_path / "many", numbered, per_shard=7)
    assert (order_of(one, 3) == order_of(many, 3)).all()
    assert (order_of(one, 3) == np.random.default_rng([0, 3, 0]).permutation(100)).all()


@pytest.mark.parametrize("per_block", [1, 7, 20, 150, 10_000])
def test_rows_and_bytes_are_those_of_the_stream_however_large_blocks_are(
    tmp_path, monkeypatch, per_block
):
    """The reference reads the stream once, and adds up the bytes of each document."""
    monkeypatch.setattr("model.pretraining.training_rows._DOCUMENTS_PER_BLOCK", per_block)
    split, _ = write_token_split(tmp_path / "shards", documents(60), per_shard=9)
    epoch = int(split.tokens.sum())
    stream = TrainingRows(split, 1, seed=2).rows(0, 2 * epoch)[:, 0]
    rows = TrainingRows(split, 4, seed=2)
    for row in (0, 5, epoch // 4 - 1, epoch // 4, epoch // 3):
        assert rows.rows(row, 3)[:, :-1].reshape(-1).tolist() == stream[4 * row :][:12].tolist()
    seen = 0
    for start, end in pairwise([*np.flatnonzero(stream == EOT).tolist(), 2 * epoch]):
        size = 2 * (end - start) - 2  # a token stands for two bytes, end of text for none
        for tokens in range(start, end):
            expected = seen + size * (tokens - start) // (end - start)
            assert rows.original_bytes(tokens) == expected
        seen += size


def test_memory_does_not_grow_with_the_documents(tmp_path, monkeypatch):
    """Arrays of all documents would have 76 bytes for each of four million: 300 MB."""
    monkeypatch.setattr("model.pretraining.training_rows._DOCUMENTS_PER_BLOCK", 2**16)
    make_split(tmp_path / "tokens", shards=400, documents=10_000, mean_tokens=3)
    tracemalloc.start()
    try:
        split = TokenSplit(tmp_path / "tokens", "train")
        rows = TrainingRows(split, 4, seed=0)
        tokens = int(split.tokens.sum())
        for part in range(8):
            rows.rows(part * tokens // 8 // 4, 100)
            rows.original_bytes(part * tokens // 8)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert split.documents.sum() == 4_000_000
    assert peak < 32 * 2**20, f"{peak / 2**20:.0f} MiB"


def test_a_context_longer_than_the_training_tokens_is_refused(split):
    with pytest.raises(PipelineError, match=r"model\.context \(2000\) must be below the"):
        TrainingRows(split, context=2000, seed=0)


def test_original_bytes_grow_with_tokens_and_add_up(split):
    rows = TrainingRows(split, context=4, seed=0)
    epoch = int(split.tokens.sum())
    seen = [rows.original_bytes(tokens) for tokens in range(2 * epoch + 1)]
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert seen[epoch] == split.original_bytes.sum()
    assert seen[2 * epoch] == 2 * split.original_bytes.sum()


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


LENGTHS = {"long": 30, "rare": 6, "short": 3}


def sources_split(folder, per_shard: int | None = None) -> TokenSplit:
    """A split of 60 long, 90 short and 10 rare documents; a document repeats its number."""
    names = ["long"] * 60 + ["short"] * 90 + ["rare"] * 10
    numbered = [[EOT + 3000, *[number] * (LENGTHS[name] - 1)] for number, name in enumerate(names)]
    return write_token_split(folder, numbered, names, per_shard=per_shard)[0]


def documents_of(rows: TrainingRows, tokens: int) -> list[int]:
    """Return the numbers of the documents that begin in the first tokens of the stream."""
    stream = rows.rows(0, tokens)[:, 0]
    return stream[1:][stream[:-1] == EOT + 3000].tolist()


def source_of(number: int) -> str:
    return "long" if number < 60 else "short" if number < 150 else "rare"


def test_a_mixture_draws_each_source_by_its_share_of_the_text(tmp_path):
    rows = TrainingRows(sources_split(tmp_path), 1, 0, {"long": 1.0, "short": 3.0})
    drawn = documents_of(rows, 3000)
    text = Counter()
    for number in drawn:
        text[source_of(number)] += 2 * LENGTHS[source_of(number)] - 2  # its bytes
    assert text.keys() == {"long", "short"}
    assert text["short"] / text.total() == pytest.approx(0.75, abs=0.03)


def test_documents_of_a_source_are_drawn_equally_often_through_all_epochs(tmp_path):
    """An epoch is of 160 documents, of which the mixture gives 10 to `long` and 150 to `short`."""
    rows = TrainingRows(sources_split(tmp_path), 1, 0, {"long": 1.0, "short": 1.0})
    drawn = documents_of(rows, 8 * (10 * 30 + 150 * 3) + 1)
    assert len(drawn) == 8 * 160
    counts = Counter(drawn)
    assert {counts[number] for number in range(60)} == {1, 2}  # 80 of 60
    assert {counts[number] for number in range(60, 150)} == {13, 14}  # 1,200 of 90
    assert drawn[:160] != drawn[160:320]


def test_a_mixture_has_one_order_for_a_seed_in_every_condition(tmp_path):
    """A condition gives documents other lengths in tokens, and the same bytes of text."""
    plain = sources_split(tmp_path / "plain")
    numbered = [[EOT + 3000, *[number] * 2] for number in range(160)]
    names = [source_of(number) for number in range(160)]
    other, _ = write_token_split(tmp_path / "other", numbered, names)
    shard = other.shard(0)
    shard.table[:, ORIGINAL_BYTES] = plain.shard(0).table[:, ORIGINAL_BYTES]
    other.shard = lambda _: shard
    weights = {"long": 2.0, "rare": 1.0}

    def order(split: TokenSplit, seed: int) -> list[int]:
        return documents_of(TrainingRows(split, 1, seed, weights), 900)[:60]

    assert order(plain, 5) == order(other, 5) != order(plain, 6)


def test_all_of_the_corpus_is_the_default_order(tmp_path):
    split = sources_split(tmp_path)
    as_it_is = TrainingRows(split, 4, 7).rows(0, 300)
    assert (TrainingRows(split, 4, 7, {}, begin_documents=False).rows(0, 300) == as_it_is).all()


@pytest.mark.parametrize("per_block", [20, 10_000])
@pytest.mark.parametrize("mixture", [{}, {"long": 1.0, "short": 2.0}])
@pytest.mark.parametrize("begin_documents", [False, True])
def test_drawn_rows_and_bytes_do_not_depend_on_where_reading_begins(
    tmp_path, monkeypatch, per_block, mixture, begin_documents
):
    monkeypatch.setattr("model.pretraining.training_rows._DOCUMENTS_PER_BLOCK", per_block)
    split = mixed_split(tmp_path)

    def fresh() -> TrainingRows:
        return TrainingRows(split, 5, 3, mixture, begin_documents)

    whole = fresh().rows(0, 700)
    for first in (0, 1, 350, 690):
        assert (fresh().rows(first, 10) == whole[first : first + 10]).all()
    rows = fresh()
    seen = [rows.original_bytes(5 * number) for number in range(700)]
    assert seen[0] == 0
    assert all(one <= other for one, other in pairwise(seen))
    assert fresh().original_bytes(5 * 650) == seen[650]
    # A token stands for its share of its document's bytes; end of text belongs to the next token's.
    numbers = np.where(whole[:699] == EOT + 3000, np.roll(whole[:699], -1, axis=1), whole[:699])
    lengths = np.array([6, 30, 3, 3])[(numbers[:, :-1] + 1) % 4]
    shares = (2 * lengths - 2) / lengths
    assert shares.sum() - 700 < seen[-1] < shares.sum() + 100, "each row's are rounded down"


def mixed_split(folder) -> TokenSplit:
    """A split whose blocks of 20 documents have documents of all sources."""
    names = ["long", "short", "short", "rare"] * 40
    numbered = [[EOT + 3000, *[number] * (LENGTHS[name] - 1)] for number, name in enumerate(names)]
    return write_token_split(folder, numbered, names, per_shard=4)[0]


@pytest.mark.parametrize("context", [4, 10, 64])
def test_documents_begin_rows_and_are_cut_at_their_ends(tmp_path, context):
    """The reference walks through the stream of documents."""
    split = sources_split(tmp_path)
    epoch = int(split.tokens.sum())
    stream = TrainingRows(split, 1, seed=2).rows(0, epoch)[:, 0]
    begins = np.flatnonzero(stream == EOT + 3000)
    expected, start = [], 0
    while start + context < epoch:
        expected.append(stream[start : start + context + 1].tolist())
        later = begins[begins >= start + context]
        if not len(later):
            break
        start = int(later[0])
    rows = TrainingRows(split, context, 2, begin_documents=True).rows(0, len(expected) + 1)
    assert rows[:-1].tolist() == expected
    assert (rows[:, 0] == EOT + 3000).all()
    packed = TrainingRows(split, context, 2).rows(0, len(expected))
    assert not (packed[:, 0] == EOT + 3000).all()
    # The next epoch begins anew.
    second = TrainingRows(split, 1, seed=2).rows(epoch, context + 1)[:, 0]
    assert rows[-1].tolist() == second.tolist()


def test_documents_too_short_for_a_row_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("model.pretraining.training_rows._DOCUMENTS_PER_BLOCK", 4)
    split = mixed_split(tmp_path)
    rows = TrainingRows(split, 100, 0, begin_documents=True)
    with pytest.raises(PipelineError, match=r"no block of 4 documents has a row of model\.context"):
        rows.rows(0, 1)


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (
            {"long": 1.0, "web": 1.0, "books": 1.0},
            r"pretrain\.mixture names books, web; the sources of the corpus are long, rare, short",
        ),
        (
            {"long": 1e9, "short": 1e-9},
            r"pretrain\.mixture\.short: its weight gives it none of 160 documents",
        ),
    ],
)
def test_a_mixture_without_documents_is_refused(tmp_path, mixture, message):
    split = sources_split(tmp_path)
    with pytest.raises(PipelineError, match=message):
        TrainingRows(split, 4, 0, mixture).rows(0, 1)


def test_a_source_that_a_short_corpus_has_cut_away_is_refused(tmp_path):
    split = sources_split(tmp_path)
    split.index = split.index.model_copy(update={"sources": [*split.index.sources, "web"]})
    with pytest.raises(PipelineError, match=r"mixture\.web: none of 160 training documents is"):
        TrainingRows(split, 4, 0, {"long": 1.0, "web": 1.0}).rows(0, 1)


def test_bytes_of_a_mixture_are_counted_while_a_thread_reads_ahead(tmp_path):
    split = sources_split(tmp_path)
    weights = {"long": 1.0, "short": 1.0}
    alone = TrainingRows(split, 4, 0, weights)
    expected = [(alone.rows(n, 1).tolist(), alone.original_bytes(4 * n)) for n in range(900)]
    rows = TrainingRows(split, 4, 0, weights)
    read = prefetched(lambda number: rows.rows(number, 1).tolist(), range(900))
    assert [(row, rows.original_bytes(4 * n)) for n, row in enumerate(read)] == expected
