"""Make the corpus: de-duplicate passages, drop contaminated ones, shuffle, add drills.

Three passes run in parallel; a worker holds at most one shard in memory:

    pass      reads                      writes
    scatter   one raw shard              its passages by group of corpus shards
    regroup   one group of all scatters  its passages by shard of the group
    gather    one shard of its regroup   the corpus shard: distinct, clean, sorted, with drills

For 2 raw shards and 4 corpus shards in 2 groups of 2:

    raw 0 ─ scatter ─┬─▶ group 0 ─ regroup ─┬─▶ shard 0 ─ gather
    raw 1 ─ scatter ─┤                      └─▶ shard 1 ─ gather
                     └─▶ group 1 ─ regroup ─┬─▶ shard 2 ─ gather
                                            └─▶ shard 3 ─ gather

With groups, R raw shards and S shards need R × √S batches instead of R × S. At 10¹² tokens in
shards of 50 million characters that is 29 million batches of 160 kB, not 9 billion of 500 bytes.

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
# How much text a pass sorts at a time: enough that each group's or shard's part is worth a read.
_CHARACTERS_IN_MEMORY = 32_000_000
# Passages between passes have one more column, the index of their shard among all shards.
_SPILL_SCHEMA = DOCUMENT_SCHEMA.append(pa.field("shard", pa.int32()))


class Shard(NamedTuple):
    """One shard of the corpus: shard `number` of a split, of `total`."""

    split: str
    number: int
    total: int


def plan_shards(characters: int, params: CorpusParams) -> list[Shard]:
    """Return the shards, of about `characters_per_shard` each, for `characters` in all.

    The training shards come first. Each split has at least one.
    """
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
    """Return the place of `text`, which depends on its content and the shuffle's seed only.

    The split does not depend on the seed: a text is validation if its digest is below
    `val_fraction`. So a larger validation split contains the smaller one.
    """
    digest = _digest(text)
    # 64 bits of the digest are a uniform number from 0 to 2⁶⁴.
    split = "val" if int.from_bytes(digest[:8], "big") < params.val_fraction * 2**64 else "train"
    seed = params.shuffle_seed.to_bytes(8, "big")
    return Place(
        split, int.from_bytes(hashlib.blake2b(digest, digest_size=8, key=seed).digest(), "big")
    )


def shards_per_group(shards: int) -> int:
    """Return ⌈√shards⌉, so that there are about as many groups as shards in one group.

    10 shards make groups of 4, 4 and 2.
    """
    # isqrt rounds down: isqrt(9) + 1 = 4 for 10 shards, isqrt(8) + 1 = 3 for 9.
    return math.isqrt(shards - 1) + 1


def count_groups(shards: int) -> int:
    """Return the number of groups of `shards` shards, the last one perhaps smaller."""
    return -(-shards // shards_per_group(shards))


def scatter(passages: Path, shards: list[Shard], params: CorpusParams, spill: Path) -> None:
    """Distribute the passages of one raw shard over the groups of `shards`; write file `spill`.

    Raises PipelineError if a source of passages has the drills' name.
    """
    # The index of each split's first shard, and its number of shards.
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
                # Duplicates that differ in white space around them get one place.
                text = document.text.strip()
                place = place_of(text, params)
                # A split's keys 0 … 2⁶⁴ − 1 are cut into equal ranges, one for each shard.
                shard = first[place.split] + place.key * counts[place.split] // _KEYS
                rows.append({"text": text, "source": document.source, "shard": shard})
            yield pa.RecordBatch.from_pylist(rows, _SPILL_SCHEMA)

    size = shards_per_group(len(shards))
    _deal(rounds(), lambda shard: shard // size, count_groups(len(shards)), spill)


def regroup(spills: Iterable[Path], shards: int, group: int, spill: Path) -> None:
    """Distribute what `scatter` wrote to `spills` for one group over the group's shards.

    `shards` is the number of all shards. The result is the file `spill`.
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

    Drops exact duplicates of the stripped text and documents that share text with the benchmark.
    Of duplicates the alphabetically first source is kept. Adds drills up to their fraction, and
    sorts everything by key.
    """
    # text → source
    found: dict[str, str] = {}
    read = 0
    size = shards_per_group(len(shards))
    for batch in _dealt(spill, DOCUMENT_SCHEMA, size, index % size):
        for text, source in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            read += 1
            # The same source whatever the order of the raw shards.
            found[text] = min(source, found.get(text, source))
    passages = [
        Document(*pair) for pair in found.items() if not benchmark.shares_text_with(pair[0])
    ]
    # Each passage that was read is a duplicate, contaminated, or among the documents.
    counts = {
        "read": read,
        "duplicate": read - len(found),
        "contaminated": len(found) - len(passages),
    }
    characters = sum(len(document.text) for document in passages)
    # (key, document): sorting by the key shuffles, since keys are hashes.
    keyed = [(place_of(document.text, params).key, document) for document in passages]
    shard = shards[index]
    for text in _drills(shard, params, characters):
        # A drill's key is scaled from 0 … 2⁶⁴ to this shard's range of keys, so that drills lie
        # between the passages.
        key = (shard.number * _KEYS + place_of(text, params).key) // shard.total
        keyed.append((key, Document(text, DRILL_SOURCE)))
    return Gathered([document for _, document in sorted(keyed)], counts)


class Gathered(NamedTuple):
    """A shard's documents in order, and the counts of passages: read, duplicate, contaminated."""

    documents: list[Document]
    passages: dict[str, int]

    def write(self, directory: Path) -> dict[str, dict[str, int]]:
        """Write the documents as shard 0 of `documents` in `directory`.

        Returns characters and documents by source, and the counts of passages.
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

    The size counts bytes, so a character that is not ASCII counts several times.
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

    `target_of` maps the column `shard`, int32 (rows,), to targets. A file of 2 rounds and 3 targets
    has the batches 0 1 2 | 0 1 2, some perhaps empty, so target 1 has the batches 1 and 4.
    """
    # One thread per worker: the passes already use all cores.
    options = pa.ipc.IpcWriteOptions(compression="zstd", use_threads=False)
    with (
        open(spill, "wb") as file,
        pa.ipc.new_file(file, _SPILL_SCHEMA, options=options) as writer,
    ):
        for batch in rounds:
            # Target of each row, (rows,).
            of_row = target_of(batch.column("shard").to_numpy())
            # Sorted by target; "stable" keeps the order of rows within one.
            order = np.argsort(of_row, kind="stable")
            # Where each target's rows end, (targets,).
            ends = np.searchsorted(of_row[order], np.arange(targets), side="right")
            dealt, start = batch.take(pa.array(order)), 0
            for end in ends.tolist():
                writer.write_batch(dealt.slice(start, end - start))
                start = end


def _dealt(spill: Path, schema: pa.Schema, targets: int, target: int) -> Iterator[pa.RecordBatch]:
    """Yield the batches of `target` in a file that `_deal` wrote, with the columns of `schema`."""
    with open(spill, "rb") as file:
        reader = pa.ipc.open_file(file)
        # Batches of one target are `targets` apart, and only they are read.
        for number in range(target, reader.num_record_batches, targets):
            yield reader.get_batch(number).select(schema.names)


def _drills(shard: Shard, params: CorpusParams, characters: int) -> Iterator[str]:
    """Yield distinct drills until they are `drill_fraction` of drills and passages together.

    The passages have `characters` characters, and fractions count characters.
    """
    # d / (d + p) = f gives d = f / (1 − f) × p: for a fraction of 0.2, a quarter of the passages.
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
    """Return 16 bytes that identify a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
