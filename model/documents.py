"""Documents in sharded parquet (zstd): each row holds one text and the name of its source."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import PipelineError
from model.files import verified
from model.section import Section

_SCHEMA = pa.schema([("text", pa.string()), ("source", pa.string())])
_ROWS_PER_GROUP = 1024


class Document(NamedTuple):
    text: str
    source: str


class CorpusIndex(Section):
    """A corpus's index.json: documents and characters by split and source, and what became of the passages."""

    characters: dict[str, dict[str, int]]
    documents: dict[str, dict[str, int]]
    passages: dict[str, int]

    def sources(self) -> list[str]:
        """The names of all sources in both splits, in alphabetical order."""
        return sorted({source for split in self.documents.values() for source in split})


class DocumentWriter:
    """Appends documents to `{prefix}_00000.parquet`, `_00001`, …, each of `per_shard` documents but the last.

    Memory holds one row group at a time. Use as a context manager.
    """

    def __init__(self, directory: Path, prefix: str, per_shard: int):
        self._directory, self._prefix, self._per_shard = directory, prefix, per_shard
        self._pending: list[Document] = []
        self._writer: pq.ParquetWriter | None = None
        self._in_shard = 0
        self._shards = 0

    def __enter__(self) -> "DocumentWriter":
        return self

    def __exit__(self, *_) -> None:
        self._flush()
        self._close_shard()

    def append(self, document: Document) -> None:
        self._pending.append(document)
        if len(self._pending) == min(_ROWS_PER_GROUP, self._per_shard - self._in_shard):
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._writer is None:
            path = shard_path(self._directory, self._prefix, self._shards)
            self._writer = pq.ParquetWriter(path, _SCHEMA, compression="zstd")
        self._writer.write_batch(pa.RecordBatch.from_pylist([d._asdict() for d in self._pending], _SCHEMA))
        self._in_shard += len(self._pending)
        self._pending = []
        if self._in_shard == self._per_shard:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._shards += 1
            self._in_shard = 0


def shard_path(directory: Path, prefix: str, shard: int) -> Path:
    return directory / f"{prefix}_{shard:05d}.parquet"


def document_shards(directory: Path, prefix: str) -> list[Path]:
    """Return the shards `prefix` has in `directory`, in order; a gap in their numbers is an error."""
    shards = sorted(directory.glob(f"{prefix}_*.parquet"))
    if not shards or shards != [shard_path(directory, prefix, n) for n in range(len(shards))]:
        raise PipelineError(f"{directory}: no complete series of {prefix}_*.parquet; delete it and run dvc repro")
    return shards


def read_documents(shard: Path) -> Iterator[Document]:
    """Yield the documents of one parquet file in order, one row group in memory at a time; the file must be the one written."""
    try:
        with pq.ParquetFile(verified(shard)) as file:
            for batch in file.iter_batches(columns=_SCHEMA.names):
                yield from map(Document, *(batch.column(name).to_pylist() for name in _SCHEMA.names))
    except pa.ArrowException as error:
        raise PipelineError(f"{shard}: not readable as documents ({error}); delete it and run dvc repro") from None


def read_split(directory: Path, prefix: str) -> Iterator[Document]:
    """Yield the documents of all shards of `prefix` in order."""
    for shard in document_shards(directory, prefix):
        yield from read_documents(shard)
