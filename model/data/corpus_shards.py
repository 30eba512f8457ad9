"""Which documents make the corpus, and in which order: de-duplicated, clean of the benchmark, shuffled, with drills.

Two passes, parallel over shards, with no more than a shard in a worker's memory. `scatter` deals the passages of one raw shard
out to the shards of the corpus; `gather` makes one shard of all that was dealt to it. Where a passage goes, and where it stands
there, is decided by its text and the seed alone: duplicates meet in one shard, and neither the order nor the number of
the raw shards matters.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from common.errors import PipelineError
from model.data.contamination import Benchmark
from model.data.documents import DOCUMENT_SCHEMA, Document, DocumentWriter, read_documents
from model.data.drills import generate_drills
from model.data.source_names import DRILL_SOURCE
from model.params.corpus import CorpusParams

SPLITS = ("train", "val")
_KEYS = 2**64
_CHARACTERS_IN_MEMORY = 16_000_000


class Shard(NamedTuple):
    """One shard of the corpus: shard `number` of a split, of `total`."""

    split: str
    number: int
    total: int


def plan_shards(characters: int, params: CorpusParams) -> list[Shard]:
    """Return the shards for passages of `characters` in all: each holds about `characters_per_shard` of them."""
    shares = {"train": 1 - params.val_fraction, "val": params.val_fraction}
    counts = {
        split: max(1, round(characters * shares[split] / params.characters_per_shard))
        for split in SPLITS
    }
    return [
        Shard(split, number, counts[split]) for split in SPLITS for number in range(counts[split])
    ]


class Place(NamedTuple):
    """Where a document belongs: its split, and its key there, 0 ≤ key < 2⁶⁴, by which the split is in order."""

    split: str
    key: int


def place_of(text: str, params: CorpusParams) -> Place:
    """Return where `text` belongs, by its content alone: a larger validation split keeps the smaller one."""
    digest = _digest(text)
    split = "val" if int.from_bytes(digest[:8], "big") < params.val_fraction * 2**64 else "train"
    seed = params.shuffle_seed.to_bytes(8, "big")
    return Place(
        split, int.from_bytes(hashlib.blake2b(digest, digest_size=8, key=seed).digest(), "big")
    )


def scatter(passages: Path, shards: list[Shard], params: CorpusParams, spill: Path) -> None:
    """Deal the passages of one raw shard out to `shards`; `spill` gets one record batch for each, again and again.

    Raises PipelineError where a source of passages has the drills' name.
    """
    first = {shard.split: index for index, shard in reversed(list(enumerate(shards)))}
    counts = {shard.split: shard.total for shard in shards}
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with (
        open(spill, "wb") as file,
        pa.ipc.new_file(file, DOCUMENT_SCHEMA, options=options) as writer,
    ):
        for documents in _by_characters(read_documents(passages), _CHARACTERS_IN_MEMORY):
            dealt: list[list[dict[str, str]]] = [[] for _ in shards]
            for document in documents:
                if document.source == DRILL_SOURCE:
                    raise PipelineError(
                        f"a source of passages may not be named {DRILL_SOURCE}; rename its file"
                    )
                text = document.text.strip()
                place = place_of(text, params)
                dealt[first[place.split] + place.key * counts[place.split] // _KEYS].append(
                    {**document._asdict(), "text": text}
                )
            for rows in dealt:
                writer.write_batch(pa.RecordBatch.from_pylist(rows, DOCUMENT_SCHEMA))


def gather(
    spills: Iterable[Path],
    shards: list[Shard],
    index: int,
    params: CorpusParams,
    benchmark: Benchmark,
) -> "Gathered":
    """Return shard `index` of the corpus out of what `scatter` has left in `spills`.

    Drops exact duplicates (of the stripped text; the source first in the alphabet is named) and documents that share text
    with the benchmark, adds as many drills as keep the stated fraction, and puts all in order of their keys.
    """
    found: dict[str, str] = {}
    read = 0
    for spill in spills:
        for document in _dealt(spill, len(shards), index):
            read += 1
            found[document.text] = min(document.source, found.get(document.text, document.source))
    passages = [
        Document(*pair) for pair in found.items() if not benchmark.shares_text_with(pair[0])
    ]
    counts = {
        "read": read,
        "duplicate": read - len(found),
        "contaminated": len(found) - len(passages),
    }
    characters = sum(len(document.text) for document in passages)
    keyed = [(place_of(document.text, params).key, document) for document in passages]
    shard = shards[index]
    for text in _drills(shard, params, characters):
        # Among this shard's keys, so that drills lie between the passages.
        key = (shard.number * _KEYS + place_of(text, params).key) // shard.total
        keyed.append((key, Document(text, DRILL_SOURCE)))
    return Gathered([document for _, document in sorted(keyed)], counts)


class Gathered(NamedTuple):
    """A shard's documents in order, and how many passages were read, duplicate and contaminated."""

    documents: list[Document]
    passages: dict[str, int]

    def write(self, directory: Path) -> dict[str, dict[str, int]]:
        """Write the documents as shard 0 of `documents`; return characters and documents by source, and the passages."""
        with DocumentWriter(directory, "documents", sys.maxsize) as writer:
            for document in self.documents:
                writer.append(document)
        return {
            "characters": dict(writer.characters),
            "documents": dict(writer.documents),
            "passages": self.passages,
        }


def _by_characters(documents: Iterable[Document], limit: int) -> Iterator[list[Document]]:
    """Yield `documents` in lists that end as soon as they hold `limit` characters."""
    pending: list[Document] = []
    characters = 0
    for document in documents:
        pending.append(document)
        characters += len(document.text)
        if characters >= limit:
            yield pending
            pending, characters = [], 0
    if pending:
        yield pending


def _dealt(spill: Path, shards: int, index: int) -> Iterator[Document]:
    with open(spill, "rb") as file:
        reader = pa.ipc.open_file(file)
        for number in range(index, reader.num_record_batches, shards):
            yield from (Document(**row) for row in reader.get_batch(number).to_pylist())


def _drills(shard: Shard, params: CorpusParams, characters: int) -> Iterator[str]:
    """Yield different drills until they are `drill_fraction` of themselves and `characters` of passages."""
    wanted = params.drill_fraction / (1 - params.drill_fraction) * characters
    seen: set[str] = set()
    for text in generate_drills(shard.split, params.drill_seed, shard.number):
        if wanted <= 0:
            return
        if text not in seen:
            seen.add(text)
            wanted -= len(text)
            yield text


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
