"""Documents in shards of parquet (zstd): each row holds one text and the name of its source."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import PipelineError
from common.files import verified, way_back
from common.sections import Section

DOCUMENT_SCHEMA = pa.schema([("text", pa.string()), ("source", pa.string())])
_DOCUMENTS_PER_GROUP = 1024
_CHARACTERS_PER_GROUP = 4_000_000
# Characters of a document at most. A row group of one such document and less than 4 million other
# characters stays below Arrow's 2 GiB, at up to four bytes a character.
LONGEST_DOCUMENT = 250_000_000


class Document(NamedTuple):
    """A text and the name of its source."""

    text: str
    source: str


class CorpusIndex(Section):
    """index.json of the corpus: documents and characters by split and source.

    Also the counts of passages read and dropped, and the seed of the shuffle.
    """

    characters: dict[str, dict[str, int]]
    documents: dict[str, dict[str, int]]
    passages: dict[str, int]
    shuffle_seed: int

    def sources(self) -> list[str]:
        """Return the names of all sources in both splits, in alphabetical order."""
        return sorted({source for split in self.documents.values() for source in split})


class PassagesIndex(Section):
    """index.json of the fetched passages: documents and characters by source."""

    characters: dict[str, int]
    documents: dict[str, int]

    def total(self) -> tuple[int, int]:
        """Return the numbers of all documents and characters."""
        return sum(self.documents.values()), sum(self.characters.values())


class DocumentWriter:
    """Append documents to `{prefix}_00000.parquet`, `_00001`, …; a context manager.

    A shard ends with the document that fills it: with 100 characters per shard, documents of 60, 50
    and 30 make shards of 110 and 30. Memory holds one row group at a time, however many documents
    there are. `documents` and `characters` count what was written, by source.
    """

    def __init__(self, directory: Path, prefix: str, characters_per_shard: int):
        self.documents: Counter[str] = Counter()
        self.characters: Counter[str] = Counter()
        self._directory, self._prefix, self._characters_per_shard = (
            directory,
            prefix,
            characters_per_shard,
        )
        self._pending: list[Document] = []
        self._pending_characters = self._shard_characters = 0
        self._writer: pq.ParquetWriter | None = None
        self._shards = 0

    def __enter__(self) -> "DocumentWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # After an error, pending documents are not written: the shard is incomplete anyway.
        if kind is None:
            self._flush()
        self._close_shard()

    def append(self, document: Document) -> None:
        """Append a document; raise PipelineError if it is longer than LONGEST_DOCUMENT."""
        if len(document.text) > LONGEST_DOCUMENT:
            raise PipelineError(
                f"a document of {document.source} is longer than {LONGEST_DOCUMENT} characters; "
                "split its file"
            )
        self._pending.append(document)
        self._pending_characters += len(document.text)
        self.documents[document.source] += 1
        self.characters[document.source] += len(document.text)
        # A shard ends with this document.
        full = self._shard_characters + self._pending_characters >= self._characters_per_shard
        if (
            full
            or len(self._pending) == _DOCUMENTS_PER_GROUP
            or self._pending_characters >= _CHARACTERS_PER_GROUP
        ):
            self._flush()
        if full:
            self._close_shard()

    def _flush(self) -> None:
        """Write pending documents as one row group; open a shard if none is open."""
        if not self._pending:
            return
        if self._writer is None:
            path = shard_path(self._directory, self._prefix, self._shards)
            self._writer = pq.ParquetWriter(path, DOCUMENT_SCHEMA, compression="zstd")
        self._writer.write_batch(
            pa.RecordBatch.from_pylist([d._asdict() for d in self._pending], DOCUMENT_SCHEMA)
        )
        self._shard_characters += self._pending_characters
        self._pending, self._pending_characters = [], 0

    def _close_shard(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
            self._shards += 1
            self._shard_characters = 0


def shard_path(directory: Path, prefix: str, shard: int) -> Path:
    """Return the path of a shard: `passages_00003.parquet`."""
    return directory / f"{prefix}_{shard:05d}.parquet"


def document_shards(directory: Path, prefix: str) -> list[Path]:
    """Return the shards of `prefix` in `directory`, in order.

    Raises PipelineError if there are none, or if a number is missing.
    """
    shards = sorted(directory.glob(f"{prefix}_*.parquet"))
    # Numbers without a gap from 0, so that a lost shard is noticed.
    if not shards or shards != [shard_path(directory, prefix, n) for n in range(len(shards))]:
        raise PipelineError(
            f"{directory}: no complete series of {prefix}_*.parquet; {way_back(directory)}"
        )
    return shards


def read_documents(shard: Path) -> Iterator[Document]:
    """Yield the documents of one parquet file in order, one row group in memory at a time.

    Raises PipelineError if the file is not the one that was written.
    """
    try:
        with pq.ParquetFile(verified(shard)) as file:
            if not file.schema_arrow.equals(DOCUMENT_SCHEMA):
                raise ValueError("its columns are not a document's")
            for number in range(file.num_row_groups):
                # In one thread: the passes already use all cores.
                group = file.read_row_group(
                    number, columns=DOCUMENT_SCHEMA.names, use_threads=False
                )
                yield from map(
                    Document, *(group.column(name).to_pylist() for name in DOCUMENT_SCHEMA.names)
                )
    except (OSError, OverflowError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(
            f"{shard}: not readable as documents ({reason}); {way_back(shard.parent)}"
        ) from None


def read_split(directory: Path, prefix: str) -> Iterator[Document]:
    """Yield the documents of all shards of `prefix` in order."""
    for shard in document_shards(directory, prefix):
        yield from read_documents(shard)
