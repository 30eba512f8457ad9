"""Token shards: little-endian uint16 ids, a table of the documents in them, and an index.

In a directory of shards, for a split `train` or `val` and shard n:
    train_00000.bin             uint16 ids; each document is end of text, then its tokens
    train_00000.documents.npy   int32 (documents, 3): tokens with the leading end of text,
                                original UTF-8 bytes, source
    index.json                  sizes, and the names that the source numbers stand for
    SHA256SUMS                  of every file

Two documents in GPT-2's ids, `Hi!` of source 0 and `6 × 9` of source 1, whose `×` takes two bytes:

    train_00000.bin             50256 17250 0 | 50256 21 13958 860     7 ids, 14 bytes
    train_00000.documents.npy   [[3, 3, 0], [4, 6, 1]]
"""

from pathlib import Path
from tokenize import TokenError
from typing import NamedTuple

import numpy as np
from pydantic import Field

from common.errors import PipelineError
from common.files import read_checksums, verified, way_back
from common.sections import Section, read_json

TOKENS, ORIGINAL_BYTES, SOURCE = range(3)
# The largest figure of a shard: sums over 2¹⁵ such shards still fit into int64.
_LARGEST = 2**48


class Expressions(Section):
    """How many expressions of one form the text has, and how many of them became a token."""

    found: int
    changed: int


class ShardEntry(Section):
    """What a shard holds; `documents_sha256` and `plain_tokens` are the same in every condition.

    `documents_sha256` covers the original texts in order, the last one as far as the shard has it.
    `plain_tokens` is the number of tokens without facts, in the vocabulary that all conditions
    share. `original_bytes` are UTF-8 bytes.
    """

    documents: int = Field(gt=0, lt=_LARGEST)
    documents_sha256: str
    expressions: dict[str, Expressions]
    mul_fact_tokens: int
    original_bytes: int = Field(ge=0, lt=_LARGEST)
    plain_tokens: int
    tokens: int = Field(gt=0, lt=_LARGEST)


class Index(Section):
    """index.json: the shards of each split in order, and the sources by number."""

    condition: str
    sources: list[str]
    splits: dict[str, list[ShardEntry]]
    vocab_size: int = Field(gt=0)

    def total(self, split: str, figure: str) -> int:
        """Return the sum of a figure of ShardEntry over a split's shards."""
        return sum(getattr(entry, figure) for entry in self.splits[split])


def shard_paths(directory: Path, split: str, number: int) -> tuple[Path, Path]:
    """Return the paths of a shard's ids and of its documents table."""
    stem = f"{split}_{number:05d}"
    return directory / f"{stem}.bin", directory / f"{stem}.documents.npy"


def write_shard(
    directory: Path, split: str, number: int, documents: list[np.ndarray], table: np.ndarray
) -> None:
    """Write one shard's two files.

    `documents` are ids (tokens,) with their leading end of text. `table` is integer (documents, 3),
    with the columns of this module's docstring.
    """
    tokens_path, table_path = shard_paths(directory, split, number)
    np.concatenate(documents).astype("<u2").tofile(tokens_path)
    np.save(table_path, table.astype("<i4"), allow_pickle=False)


class Shard(NamedTuple):
    """A shard's ids, uint16 (tokens,), memory-mapped, and its table, int32 (documents, 3)."""

    tokens: np.ndarray
    table: np.ndarray


class TokenSplit:
    """One split of a shard directory.

    `documents`, `tokens` and `original_bytes` are int64 (shards,): how many each shard holds. Only
    these stay in memory, since a split may have a billion documents, and the kernel limits how many
    files a process maps. A shard is verified when it is read for the first time.
    """

    def __init__(self, directory: Path, split: str):
        """Read the index; raise PipelineError if a file is missing or has the wrong size."""
        self._directory, self._split = directory, split
        self._checksums = read_checksums(directory)
        self._verified: set[int] = set()
        self.index = read_json(verified(directory / "index.json", self._checksums), Index)
        entries = self.index.splits.get(split)
        if not entries:
            raise PipelineError(
                f"{directory}: no {split} shards in index.json; run dvc repro tokenize"
            )
        for number, entry in enumerate(entries):
            _require_sizes(*shard_paths(directory, split, number), entry.tokens)
        self.documents, self.tokens, self.original_bytes = (
            np.array([getattr(entry, figure) for entry in entries], dtype=np.int64)
            for figure in ("documents", "tokens", "original_bytes")
        )

    def shard(self, number: int) -> Shard:
        """Map a shard into memory; raise PipelineError if it is not the one that was written."""
        tokens_path, table_path = shard_paths(self._directory, self._split, number)
        if number not in self._verified:
            for path in (tokens_path, table_path):
                verified(path, self._checksums)
        table = _read_table(table_path, self.index, self._split, number)
        self._verified.add(number)
        return Shard(np.memmap(tokens_path, dtype="<u2", mode="r"), table)

    def read(self, numbers: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the ids of the documents `numbers`, and their rows of the tables (documents, 3).

        Documents are numbered through all shards, from 0. `numbers` must ascend. With shards of 3
        and 4 documents, number 5 is the third document of shard 1.
        """
        # Documents up to the end of each shard: [3, 7] in the example.
        ends = np.cumsum(self.documents)
        shard_of = np.searchsorted(ends, numbers, side="right")
        tokens: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        for number in np.unique(shard_of).tolist():
            shard = self.shard(number)
            # Where each document of the shard ends among its ids, (documents of the shard,).
            token_ends = np.cumsum(shard.table[:, TOKENS], dtype=np.int64)
            # Numbers within the shard: 5 − (7 − 4) = 2.
            chosen = numbers[shard_of == number] - (ends[number] - self.documents[number])
            rows.append(shard.table[chosen])
            for end, length in zip(token_ends[chosen], rows[-1][:, TOKENS], strict=True):
                tokens.append(shard.tokens[end - length : end])
        return tokens, np.concatenate(rows)


def _read_table(path: Path, index: Index, split: str, number: int) -> np.ndarray:
    """Return a shard's documents table, int32 (documents, 3).

    Raises PipelineError if it is unreadable, or contradicts the shard's entry in the index.
    """
    entry = index.splits[split][number]
    try:
        # Mapped first: a header that states a wrong size then takes no memory.
        table = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    # numpy reads headers with Python's tokenizer, which raises errors of its own.
    except (
        EOFError,
        MemoryError,
        OSError,
        OverflowError,
        SyntaxError,
        TokenError,
        TypeError,
        ValueError,
    ) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(
            f"{path}: not a table of documents ({reason}); {way_back(path.parent)}"
        ) from None
    if table.dtype != np.dtype("<i4") or table.shape != (entry.documents, 3):
        found = f"{table.dtype} {table.shape}"
        raise PipelineError(
            f"{path}: holds {found}, not {entry.documents} documents; {way_back(path.parent)}"
        )
    # (3,): of which the sums of tokens and original bytes are in the index.
    totals = table.sum(axis=0, dtype=np.int64)
    if (
        (table[:, TOKENS] < 1).any()
        or (table[:, ORIGINAL_BYTES] < 0).any()
        or not np.isin(table[:, SOURCE], np.arange(len(index.sources))).all()
        or (totals[TOKENS], totals[ORIGINAL_BYTES]) != (entry.tokens, entry.original_bytes)
    ):
        raise PipelineError(
            f"{path}: its documents are not those of index.json; {way_back(path.parent)}"
        )
    return table


def _require_sizes(tokens: Path, table: Path, count: int) -> None:
    """Raise PipelineError unless both files exist and the first has `count` ids of two bytes."""
    for path in (tokens, table):
        if not path.is_file():
            raise PipelineError(f"{path}: missing; {way_back(path.parent)}")
    if tokens.stat().st_size != 2 * count:
        raise PipelineError(f"{tokens}: does not hold {count} tokens; {way_back(tokens.parent)}")
