"""Token shards: little-endian uint16 ids, a table of the documents in them, and an index that pins both.

In a directory of shards, for a split `train` or `val` and shard n:
    train_00000.bin             uint16 ids; each document is end of text, then its tokens
    train_00000.documents.npy   int32 (documents, 3): tokens with the leading end of text, original UTF-8 bytes, source
    index.json                  sizes, and the names that the source numbers stand for
    SHA256SUMS                  of every file
"""

from pathlib import Path
from tokenize import TokenError

import numpy as np
from pydantic import Field

from common.errors import PipelineError
from common.files import verified, way_back
from common.sections import Section, read_json

TOKENS, ORIGINAL_BYTES, SOURCE = range(3)


class Expressions(Section):
    """How many expressions of one form the text has, and how many of them became a token."""

    found: int
    changed: int


class ShardEntry(Section):
    """What a shard holds. `documents_sha256` is of its original texts in order, cut where it is; `plain_tokens` are what
    they would be without facts; both are the same in every condition.
    """

    documents: int
    documents_sha256: str
    expressions: dict[str, Expressions]
    mul_fact_tokens: int
    original_bytes: int
    plain_tokens: int
    tokens: int


class Index(Section):
    condition: str
    sources: list[str]
    splits: dict[str, list[ShardEntry]]
    vocab_size: int = Field(gt=0)

    def total(self, split: str, figure: str) -> int:
        return sum(getattr(entry, figure) for entry in self.splits[split])


def shard_paths(directory: Path, split: str, number: int) -> tuple[Path, Path]:
    """Return the paths of a shard's ids and of its documents table."""
    stem = f"{split}_{number:05d}"
    return directory / f"{stem}.bin", directory / f"{stem}.documents.npy"


def write_shard(
    directory: Path, split: str, number: int, documents: list[np.ndarray], table: np.ndarray
) -> None:
    """Write one shard.

    `documents` are token ids (tokens,) with their leading end of text; `table` is int32 (documents, 3) as in the module's text.
    """
    tokens_path, table_path = shard_paths(directory, split, number)
    np.concatenate(documents).astype("<u2").tofile(tokens_path)
    np.save(table_path, table.astype("<i4"), allow_pickle=False)


class TokenSplit:
    """One split of a shard directory, memory-mapped: `document(i)` is a view of document i's tokens.

    `lengths`, `original_bytes` and `sources` are arrays over documents: tokens with the leading end of text, bytes of
    the text before tokenizing and injection, and indices into `index.sources`.
    """

    def __init__(self, directory: Path, split: str):
        """Map the shards; raises PipelineError where a file is missing or is not the one written."""
        self.index = read_json(verified(directory / "index.json"), Index)
        if not self.index.splits.get(split):
            raise PipelineError(
                f"{directory}: no {split} shards in index.json; run dvc repro tokenize"
            )
        self._shards: list[np.ndarray] = []
        tables: list[np.ndarray] = []
        for number in range(len(self.index.splits[split])):
            tokens_path, table_path = shard_paths(directory, split, number)
            tables.append(_read_table(verified(table_path), self.index, split, number))
            self._shards.append(
                _read_tokens(verified(tokens_path), int(tables[-1][:, TOKENS].sum(dtype=np.int64)))
            )
        table = np.concatenate(tables)
        self.lengths = table[:, TOKENS].astype(np.int64)
        self.original_bytes = table[:, ORIGINAL_BYTES].astype(np.int64)
        self.sources = table[:, SOURCE]
        self._shard_of = np.repeat(np.arange(len(tables)), [len(part) for part in tables])
        self._starts = np.concatenate(
            [np.cumsum(part[:, TOKENS], dtype=np.int64) - part[:, TOKENS] for part in tables]
        )

    def document(self, number: int) -> np.ndarray:
        start = self._starts[number]
        shard = self._shards[self._shard_of[number]]
        tokens: np.ndarray = shard[start : start + self.lengths[number]]
        return tokens


def _read_table(path: Path, index: Index, split: str, number: int) -> np.ndarray:
    """Return a shard's documents table, which has to be what the index says of the shard."""
    entry = index.splits[split][number]
    try:
        table = np.array(
            np.load(path, mmap_mode="r", allow_pickle=False)
        )  # mapped, a header that lies costs no memory
    # numpy reads headers with Python's tokenizer.
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


def _read_tokens(path: Path, count: int) -> np.ndarray:
    if path.stat().st_size != 2 * count:
        raise PipelineError(f"{path}: does not hold {count} tokens; {way_back(path.parent)}")
    return np.memmap(path, dtype="<u2", mode="r")
