"""Rows of tokens for training, in an order that depends on the seed and the documents only.

Every epoch lays the documents end to end in an order of its own. Row r holds the tokens from
r × context up to (r + 1) × context of this endless stream, and the token after them. Conditions
have the same documents in the same shards, so with one seed they see them in the same order.

An epoch permutes the shards by (seed, epoch), cuts them into blocks of about 2¹⁸ documents, and
permutes the documents of each block by (seed, epoch, block):

    shards of an epoch, permuted   [ s3 s0 s5 ] [ s1 s4 s2 ]         2 blocks
    documents of block 0           d7 d2 d9 …                        of s0, s3 and s5, permuted
    their tokens, `e` end of text   e a b c e d f g e h …
    rows with a context of 4       [e a b c e] row 0, inputs e a b c, targets a b c e
                                           [e d f g e] row 1

So any row is found with one block in memory, however many documents there are. A split of up to 2¹⁸
documents is one block: every order of its documents is equally likely. In a larger split, the
documents of a shard stay in one block, together with other shards in each epoch. The corpus assigns
documents to shards by a hash of their text (model/data/corpus_shards.py), so a shard is a random
sample of the split, and so is a block.

With a mixture, a block draws as many documents as it has. It draws from each source by its weight,
the source's share of the original text, which is the same in all conditions. A source with too few
documents is drawn from again (model/params/mixture.py).

With `begin_documents`, each row begins with the first document that begins at or after the last
row's final target. The rest of the document that the last row cut is left out. Rows stay in a
block.

With either option, a block's length is known only after it is drawn. So a row is found through all
blocks before it, which takes a third of a second for each block.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from threading import Lock
from typing import NamedTuple, TypeVar

import numpy as np

from common.errors import PipelineError
from model.params.mixture import mix, shares
from model.tokens.shards import ORIGINAL_BYTES, SOURCE, TOKENS, Shard, TokenSplit

T = TypeVar("T")
# A block takes 10 MB of memory and, with documents of 1,000 tokens, half a GB of mapped files.
# MosaicML's StreamingDataset shuffles within as many samples by default.
_DOCUMENTS_PER_BLOCK = 2**18


class TrainingRows:
    """The endless sequence of training rows of one split.

    `mixture` maps sources to weights; without it, an epoch has each document once. With
    `begin_documents`, each row begins with a document. Raises PipelineError if the split has fewer
    tokens than a row, or if `mixture` names an unknown source.
    """

    def __init__(
        self,
        split: TokenSplit,
        context: int,
        seed: int,
        mixture: dict[str, float] | None = None,
        begin_documents: bool = False,
    ):
        self._split, self._context, self._seed = split, context, seed
        self._mixture, self._begin_documents = mixture or {}, begin_documents
        self._tokens_per_epoch = int(split.tokens.sum())
        self._bytes_per_epoch = int(split.original_bytes.sum())
        # Rounded up: 2¹⁸ documents are one block, one more makes two.
        self._blocks = -(-int(split.documents.sum()) // _DOCUMENTS_PER_BLOCK)
        # Two of each: the current one, and the next one while it is read ahead.
        self._epoch = lru_cache(maxsize=2)(self._dealt_into_blocks)
        self._block = lru_cache(maxsize=2)(self._arranged)
        # Tokens and bytes before each block of the endless stream, as far as blocks were drawn:
        # blocks of 100, 98 and 103 tokens give [0, 100, 198, 301].
        self._drawn, self._drawn_bytes, self._lock = [0], [0], Lock()
        if context >= self._tokens_per_epoch:
            raise PipelineError(
                f"model.context ({context}) must be below the {self._tokens_per_epoch} tokens of "
                "the training split"
            )
        unknown = sorted(set(self._mixture) - set(split.index.sources))
        if unknown:
            raise PipelineError(
                f"pretrain.mixture names {', '.join(unknown)}; the sources of the corpus are "
                f"{', '.join(split.index.sources)}"
            )

    @property
    def end_of_text(self) -> int:
        """The id of end of text, which every document begins with."""
        return int(self._split.shard(0).tokens[0])

    def rows(self, first: int, count: int) -> np.ndarray:
        """Return `count` rows from row `first`, int64 (count, context + 1).

        A row's last token is the first of the next row, unless rows begin documents.
        """
        numbers = range(first, first + count)
        if self._begin_documents:
            return np.stack([self._row(number) for number in numbers]).astype(np.int64)
        start = first * self._context
        stream = self._tokens(start, start + count * self._context + 1)
        # stream (count × context + 1,); every context-th window of context + 1 tokens is a row.
        windows = np.lib.stride_tricks.sliding_window_view(stream, self._context + 1)
        return windows[:: self._context].astype(np.int64)

    def original_bytes(self, tokens: int) -> int:
        """Return how many bytes of original text the stream's first `tokens` tokens stand for.

        A document that is cut counts in proportion: 3 of 10 tokens of 45 bytes are 13 bytes,
        rounded down.
        """
        epoch, block, offset, before = self._find(tokens)
        return before + self._block(epoch, block).original_bytes(offset)

    def _tokens(self, start: int, stop: int) -> np.ndarray:
        """Return the stream's tokens from `start` up to `stop`, uint16 (stop - start,)."""
        # One part for each document that the range touches.
        parts = []
        while start < stop:
            epoch, block, offset, _ = self._find(start)
            parts.append(self._block(epoch, block).document_from(offset)[: stop - start])
            start += len(parts[-1])
        return np.concatenate(parts)

    def _row(self, number: int) -> np.ndarray:
        """Return row `number` of rows that begin documents, uint16 (context + 1,)."""
        # A block's length counts `context` tokens for each row, so no row crosses blocks here.
        epoch, block, offset, _ = self._find(number * self._context)
        return self._block(epoch, block).row(offset // self._context)

    def _find(self, token: int) -> tuple[int, int, int, int]:
        """Return epoch and block of the stream's `token`, its place there, and the bytes before it.

        The bytes are those of the stream before the block. With 1,000 tokens an epoch in blocks of
        600 and 400, token 1,650 is in epoch 1, block 1, at place 50.
        """
        if self._mixture or self._begin_documents:
            return self._find_drawn(token)
        epoch, rest = divmod(token, self._tokens_per_epoch)
        # Tokens before each block of the epoch: [0, 600, 1000] in the example.
        starts = self._epoch(epoch).tokens
        block = int(np.searchsorted(starts, rest, side="right")) - 1
        before = epoch * self._bytes_per_epoch + int(self._epoch(epoch).original_bytes[block])
        return epoch, block, rest - int(starts[block]), before

    def _find_drawn(self, token: int) -> tuple[int, int, int, int]:
        """Do what `_find` does, where a block's length is known only after it is drawn."""
        # The thread that reads ahead calls this too.
        with self._lock:
            while self._drawn[-1] <= token:
                drawn = len(self._drawn) - 1
                # A whole epoch without one row: stop instead of drawing for ever.
                if drawn >= self._blocks and not self._drawn[-1]:
                    raise PipelineError(
                        f"pretrain: no block of {_DOCUMENTS_PER_BLOCK} documents has a row of "
                        f"model.context ({self._context}); lower it"
                    )
                # The `drawn`-th block of the stream, as (epoch, block of the epoch).
                block = self._block(*divmod(drawn, self._blocks))
                self._drawn.append(self._drawn[-1] + block.length)
                self._drawn_bytes.append(self._drawn_bytes[-1] + block.original_bytes(block.length))
        number = bisect_right(self._drawn, token) - 1
        epoch, block_number = divmod(number, self._blocks)
        return epoch, block_number, token - self._drawn[number], self._drawn_bytes[number]

    def _dealt_into_blocks(self, epoch: int) -> "_Epoch":
        """Permute the shards of an epoch and cut them into blocks.

        A shard goes to the block in which its first document falls. Shards of 3, 3 and 2 documents
        have 0, 3 and 6 before them. In 2 blocks that is 0 × 2 // 8, 3 × 2 // 8 and 6 × 2 // 8: the
        blocks 0, 0 and 1.
        """
        # Documents in each shard, (shards,).
        documents = self._split.documents
        # `_arranged` uses (seed, epoch, block) for each block below `blocks`, so this is another.
        order = np.random.default_rng([self._seed, epoch, self._blocks]).permutation(len(documents))
        # Documents before each shard, in the permuted order, (shards,).
        before = np.cumsum(documents[order]) - documents[order]
        # The first shard of each block, and the end of the last, (blocks + 1,).
        starts = np.searchsorted(
            before * self._blocks // documents.sum(), np.arange(self._blocks + 1)
        )
        return _Epoch(
            [np.sort(order[first:end]) for first, end in pairwise(starts.tolist())],
            _sums(self._split.tokens[order])[starts],
            _sums(self._split.original_bytes[order])[starts],
        )

    def _arranged(self, epoch: int, block: int) -> "_Block":
        """Map a block's shards and put its documents in the order of training."""
        shards = [self._split.shard(number) for number in self._epoch(epoch).shards[block].tolist()]
        # int32 (documents of the block, 3): tokens, original bytes, source.
        table = np.concatenate([shard.table for shard in shards])
        if self._mixture:
            order = self._mixed(table, epoch, block)
        else:
            order = np.random.default_rng([self._seed, epoch, block]).permutation(len(table))
        return _Block(shards, table, order, self._context if self._begin_documents else None)

    def _mixed(self, table: np.ndarray, epoch: int, block: int) -> np.ndarray:
        """Return the documents that the mixture draws from a block, in order, as places in `table`.

        Raises PipelineError if a source of the mixture has no text here, or gets no document.
        """
        members, weights = {}, {}
        for name, weight in self._mixture.items():
            of_source = np.flatnonzero(table[:, SOURCE] == self._split.index.sources.index(name))
            total = int(table[of_source, ORIGINAL_BYTES].sum())
            if not total:
                raise PipelineError(
                    f"pretrain.mixture.{name}: none of {len(table)} training documents is of this "
                    "source; remove it, or raise corpus.target_tokens"
                )
            members[name] = of_source.tolist()
            # A share of text as a share of documents: divided by the source's mean bytes. Of equal
            # weights, documents of 1,000 bytes are drawn four times as often as those of 4,000.
            weights[name] = weight * len(of_source) / total
        for name, share in shares(weights, len(table)).items():
            if not share:
                raise PipelineError(
                    f"pretrain.mixture.{name}: its weight gives it none of {len(table)} "
                    "documents; raise it, or remove the source"
                )
        # A split of one block has the same documents in all epochs, so an epoch goes on drawing
        # where the last one ended (`part`). Blocks of a larger split differ in each epoch.
        part = epoch if self._blocks == 1 else 0
        seed = f"{self._seed}" if self._blocks == 1 else f"{self._seed}/{epoch}/{block}"
        return np.array(mix(members, weights, len(table), seed, part))


class _Epoch(NamedTuple):
    """An epoch's shards by block, and what comes before each block.

    `tokens` and `original_bytes` are int64 (blocks + 1,): the epoch's before each block, and last
    those of the whole epoch.
    """

    shards: list[np.ndarray]
    tokens: np.ndarray
    original_bytes: np.ndarray


class _Block:
    """Documents of `shards` in an order; a document may stand in it any number of times.

    `length` is how many tokens of the stream they make: all, or with `context`, the context for
    each row that begins with a document. Three kinds of numbers occur:

        token      a place in the block's stream, which has the documents in their order
        place      the number of a document in that order
        document   the number of a document in the tables of the shards
    """

    def __init__(
        self, shards: list[Shard], table: np.ndarray, order: np.ndarray, context: int | None
    ):
        lengths = table[:, TOKENS]
        # place → document
        self._order = order
        # Tokens and bytes before each place and in all, int64 (documents + 1,). Documents of 5, 4
        # and 3 tokens give [0, 5, 9, 12].
        self._ends = _sums(lengths[self._order])
        self._byte_ends = _sums(table[self._order, ORIGINAL_BYTES])
        # Where each document begins in the tokens of all shards, and where each shard does.
        self._starts = _sums(lengths)
        self._shard_starts = _sums(np.array([len(shard.tokens) for shard in shards]))
        self._shards = [shard.tokens for shard in shards]
        self._context = context
        self.length = int(self._ends[-1])
        if context is not None:
            self._row_starts = _row_starts(self._ends.tolist(), context)
            starts = np.array(self._row_starts, dtype=np.int64)
            self._row_byte_ends = _sums(
                self._bytes_before(starts + context) - self._bytes_before(starts)
            )
            self.length = len(self._row_starts) * context

    def document_from(self, token: int) -> np.ndarray:
        """Return the document that has the block's `token`, from that token to its end.

        With the documents of the example above, token 6 gives the second one without its first
        token.
        """
        # side="right": a token at a boundary belongs to the document that begins there.
        place = int(np.searchsorted(self._ends, token, side="right")) - 1
        first, end = self._ends[place : place + 2].tolist()
        # Where the document begins: first in the tokens of all shards, then in its own shard's.
        start = int(self._starts[self._order[place]])
        shard = int(np.searchsorted(self._shard_starts, start, side="right")) - 1
        start -= int(self._shard_starts[shard])
        tokens: np.ndarray = self._shards[shard][start + token - first : start + end - first]
        return tokens

    def row(self, number: int) -> np.ndarray:
        """Return the tokens of a row that begins with a document, uint16 (context + 1,)."""
        assert self._context is not None
        start = self._row_starts[number]
        stop, parts = start + self._context + 1, []
        while start < stop:
            parts.append(self.document_from(start)[: stop - start])
            start += len(parts[-1])
        return np.concatenate(parts)

    def original_bytes(self, tokens: int) -> int:
        """Return the original bytes of the block's first `tokens` tokens in the stream."""
        if self._context is None:
            return int(self._bytes_before(tokens))
        # Whole rows first, then the part of the row that is cut.
        number, rest = divmod(tokens, self._context)
        found = self._row_byte_ends[number]
        if rest:
            start = self._row_starts[number]
            found = found + self._bytes_before(start + rest) - self._bytes_before(start)
        return int(found)

    def _bytes_before(self, tokens: np.ndarray | int) -> np.ndarray:
        """Return the bytes of the documents' first `tokens` tokens, at most all of them.

        `tokens` is a number or an array, and the result has its shape.
        """
        place = np.searchsorted(self._ends, tokens, side="right") - 1
        # The end of all documents belongs to the last one.
        place = np.minimum(place, len(self._order) - 1)
        first, end = self._ends[place], self._ends[place + 1]
        seen, with_next = self._byte_ends[place], self._byte_ends[place + 1]
        # Linear within a document, rounded down: all bytes are integers.
        found: np.ndarray = seen + (with_next - seen) * (tokens - first) // (end - first)
        return found


def _row_starts(document_starts: list[int], context: int) -> list[int]:
    """Return where rows begin. The last of `document_starts` is the end of all documents.

    A row has context + 1 tokens, of which the last is a target only. With documents at 0, 3, 6 and
    10, the end at 15, and a context of 4:

        token       0 1 2 3 4 5 6 7 8 9 10 … 14
        documents   e . . e . . e . . . e
        rows        [       ]   [       ]          0 to 4, 6 to 10, and 10 to 14

    Token 5, the rest of a document that row 0 cut, is left out. Token 10 is the last target of one
    row and the beginning of the next.
    """
    starts, place = [], 0
    while document_starts[place] + context < document_starts[-1]:
        starts.append(document_starts[place])
        place = bisect_left(document_starts, document_starts[place] + context)
    return starts


def _sums(values: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0, 1, 2, … values, int64 (values + 1,)."""
    return np.concatenate([[0], np.cumsum(values, dtype=np.int64)])


def prefetched(make: Callable[[int], T], steps: Iterable[int]) -> Iterator[T]:
    """Yield `make(step)` for each step, in order, while a thread already makes the next one."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = None
        for step in steps:
            following = pool.submit(make, step)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()
