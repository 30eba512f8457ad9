"""Make the corpus: de-duplicate passages, drop contaminated ones, shuffle, add drills.

Three passes run in parallel; a worker holds at most one shard in memory. `scatter` distributes the
passages of one raw shard over groups of the corpus's shards, `regroup` those of one group over the
shards of the group, and `gather` makes one corpus shard of everything distributed to it. With
groups, R raw shards and S shards need R × √S batches to be written and read, not R × S: at 10¹²
tokens in shards of 50 million characters 29 million of 160 kB, not 9 billion of 500 bytes.

A passage's shard and its place there depend on its text and the seed only. So duplicates meet in
one shard, and neither the order nor the number of the raw shards matters.
"""

import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from common.errors import PipelineError
from model.data.contamination import Benchmark
from model.data.documents import DOCUMENT_SCHEMA, Document, DocumentWriter, read_documents
from model.data.drills import generate_drills
from model.params.corpus import CorpusParams
from model.params.source_names import DRILL_SOURCE

SPLITS = ("train", "val")
_KEYS = 2**64
# How much text a pass sorts at a time: enough that the part of each group or shard is worth a read.
_CHARACTERS_IN_MEMORY = 32_000_000
# What passages are in between passes: with the index of their shard.
_SPILL_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("shard", pa.int32()))


class Shard(NamedTuple):
    """One shard of the corpus: shard `number` of a split, of `total`."""

    split: str
    number: int
    total: int


def plan_shards(characters: int, params: CorpusParams) -> list[Shard]:
    """Return the shards, of about `characters_per_shard` each, for `characters` in all."""
    shares = {"train": 1 - params.val_fraction, "val": params.val_fraction}
    counts = {
        split: max(1, round(characters * shares[split] / params.characters_per_shard))
        for split in SPLITS
    }
    return [
        Shard(split, number, counts[split]) for split in SPLITS for number in range(counts[split])
    ]


class Place(NamedTuple):
    """A document's split, and its key there, 0 ≤ key < 2⁶⁴; a split is sorted by key."""

    split: str
    key: int


def place_of(text: str, params: CorpusParams) -> Place:
    """Return the place of `text`, which depends on its content only.

    A larger validation split therefore contains the smaller one.
    """
    digest = _digest(text)
    split = "val" if int.from_bytes(digest[:8], "big") < params.val_fraction * 2**64 else "train"
    seed = params.shuffle_seed.to_bytes(8, "big")
    return Place(
        split, int.from_bytes(hashlib.blake2b(digest, digest_size=8, key=seed).digest(), "big")
    )


def shards_per_group(shards: int) -> int:
    """Return ⌈√shards⌉, so that there are about as many groups as shards in one group."""
    return math.isqrt(shards - 1) + 1


def count_groups(shards: int) -> int:
    """Return how many groups `regroup` splits into `shards` shards."""
    return -(-shards // shards_per_group(shards))


def scatter(passages: Path, shards: list[Shard], params: CorpusParams, spill: Path) -> None:
    """Distribute the passages of one raw shard over the groups of `shards`.

    Raises PipelineError if a source of passages has the drills' name.
    """
    first = {shard.split: index for index, shard in reversed(list(enumerate(shards)))}
    counts = {shard.split: shard.total for shard in shards}

    def rounds() -> Iterator[pa.RecordBatch]:
        for documents in _by_characters(read_documents(passages)):
            rows = []
            for document in documents:
                if document.source == DRILL_SOURCE:
                    raise PipelineError(
                        f"a source of passages may not be named {DRILL_SOURCE}; rename its file"
                    )
                text = document.text.strip()
                place = place_of(text, params)
                shard = first[place.split] + place.key * counts[place.split] // _KEYS
                rows.append({"text": text, "source": document.source, "shard": shard})
            yield pa.RecordBatch.from_pylist(rows, _SPILL_SCHEMA)

    size = shards_per_group(len(shards))
    _deal(rounds(), lambda shard: shard // size, count_groups(len(shards)), spill)


def regroup(spills: Iterable[Path], shards: int, group: int, spill: Path) -> None:
    """Distribute what `scatter` wrote to `spills` for one group over the group's shards.

    `shards` is the number of all shards.
    """
    size = shards_per_group(shards)
    batches = (
        batch
        for dealt in spills
        for batch in _dealt(dealt, _SPILL_SCHEMA, count_groups(shards), group)
    )
    _deal(_joined(batches), lambda shard: shard % size, size, spill)


def gather(
    spill: Path,
    shards: list[Shard],
    index: int,
    params: CorpusParams,
    benchmark: Benchmark,
) -> "Gathered":
    """Return shard `index` of the corpus, made of what `regroup` wrote to `spill` for its group.

    Drops exact duplicates (of the stripped text; the alphabetically first source is kept) and
    documents that share text with the benchmark. Adds drills up to their fraction, and sorts
    everything by key.
    """
    found: dict[str, str] = {}
    read = 0
    size = shards_per_group(len(shards))
    for batch in _dealt(spill, DOCUMENT_SCHEMA, size, index % size):
        for text, source in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            read += 1
            found[text] = min(source, found.get(text, source))
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
        """Write the documents as shard 0 of `documents`.

        Returns characters and documents by source, and the passages' counts.
        """
        with DocumentWriter(directory, "documents", sys.maxsize) as writer:
            for document in self.documents:
                writer.append(document)
        return {
            "characters": dict(writer.characters),
            "documents": dict(writer.documents),
            "passages": self.passages,
        }


def _by_characters(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield `documents` in lists that end as soon as they hold _CHARACTERS_IN_MEMORY."""
    pending: list[Document] = []
    characters = 0
    for document in documents:
        pending.append(document)
        characters += len(document.text)
        if characters >= _CHARACTERS_IN_MEMORY:
            yield pending
            pending, characters = [], 0
    if pending:
        yield pending


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield `batches`, joined to larger ones that end as soon as they hold _CHARACTERS_IN_MEMORY.

    Characters that are not ASCII count for each of their bytes.
    """
    pending: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        pending.append(batch)
        size += batch.nbytes
        if size >= _CHARACTERS_IN_MEMORY:
            yield pa.concat_batches(pending)
            pending, size = [], 0
    if pending:
        yield pa.concat_batches(pending)


def _deal(
    rounds: Iterable[pa.RecordBatch],
    target_of: Callable[[np.ndarray], np.ndarray],
    targets: int,
    spill: Path,
) -> None:
    """Write each of `rounds` as `targets` batches, with the rows of target 0, of target 1, …

    `target_of` maps the column `shard`, int32 (rows,), to targets.
    """
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with (
        open(spill, "wb") as file,
        pa.ipc.new_file(file, _SPILL_SCHEMA, options=options) as writer,
    ):
        for batch in rounds:
            of_row = target_of(batch.column("shard").to_numpy())
            order = np.argsort(of_row, kind="stable")
            ends = np.searchsorted(of_row[order], np.arange(targets), side="right")
            dealt, start = batch.take(pa.array(order)), 0
            for end in ends.tolist():
                writer.write_batch(dealt.slice(start, end - start))
                start = end


def _dealt(spill: Path, schema: pa.Schema, targets: int, target: int) -> Iterator[pa.RecordBatch]:
    """Yield the batches of `target` in a file that `_deal` wrote, with the columns of `schema`."""
    with open(spill, "rb") as file:
        reader = pa.ipc.open_file(file)
        for number in range(target, reader.num_record_batches, targets):
            yield reader.get_batch(number).select(schema.names)


def _drills(shard: Shard, params: CorpusParams, characters: int) -> Iterator[str]:
    """Yield distinct drills until they are `drill_fraction` of drills and passages together.

    The passages have `characters`.
    """
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
