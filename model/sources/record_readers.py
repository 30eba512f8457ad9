"""Read the records of one file: parquet, arrow, JSON lines or text, the last two also compressed.

Memory holds at most 256 records at a time, fewer if they are long.
"""

import codecs
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.errors import PipelineError, printable
from model.data.documents import LONGEST_DOCUMENT
from model.sources.json_lines import read_json_lines
from model.sources.pointers import HEAD_BYTES, require_data
from model.sources.text_streams import (
    COMPRESSIONS,
    not_utf8,
    not_utf8_field,
    open_content,
    require_kind,
    zero_byte,
)

FORMATS = ".parquet, .arrow, .jsonl or .txt, the last two also .gz or .zst"
_RECORDS_PER_BATCH = 256
_BYTES_PER_BATCH = 4_000_000
_BUFFER_BYTES = 1 << 20
_COLUMNS_SHOWN = 20
# The first four bytes of an Arrow stream.
_STREAM_MARK = 0xFFFFFFFF
# The decoder's message for a frame that was compressed with a larger window than it allows.
_ZSTD_WINDOW = "Frame requires too much memory"


def format_of(path: Path) -> str | None:
    """Return the suffix that names a file's format, None for formats that are not read here.

    a.jsonl and a.jsonl.gz give `.jsonl`; a.parquet.gz gives None, since parquet compresses itself.
    """
    *rest, last = ["", *path.suffixes]
    kind = rest[-1] if last in COMPRESSIONS else last
    known = {".jsonl", ".txt"} | ({".parquet", ".arrow"} if last == kind else set())
    return kind if kind in known else None


def read_records(
    path: Path, columns: list[str] | None = None, name: str | None = None, kind: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the records of one file; its format `kind` is that of its name by default.

    Messages call the file `name`. If `columns` are given, only they are read from parquet and
    arrow: a file without one of them is an error, and other columns may be anything. In JSON lines,
    half a surrogate pair is then an error in `columns` only. Raises PipelineError, with the number
    of the record where there is one.
    """
    name = name or str(path)
    kind = kind or format_of(path)
    if kind not in (".parquet", ".arrow", ".jsonl", ".txt"):
        raise PipelineError(f"{name}: unknown format; use {FORMATS}")
    require_data(path, name)
    try:
        if kind == ".parquet":
            yield from _parquet(path, columns, name)
        elif kind == ".arrow":
            yield from _arrow(path, columns, name)
        else:
            with open_content(path, name) as (content, start):
                if kind == ".jsonl":
                    yield from read_json_lines(content, name, start, columns)
                else:
                    yield _text(content, name, start)
    except (OSError, EOFError, OverflowError, ValueError, zlib.error, pa.ArrowException) as error:
        reason = printable(" ".join(str(error).split()))
        advice = "download the file again"
        if _ZSTD_WINDOW in reason:
            advice = "decompress it with zstd --long=31 -d and compress it with zstd"
        raise PipelineError(f"{name}: cannot be read to its end ({reason}); {advice}") from None


def _parquet(path: Path, columns: list[str] | None, name: str) -> Iterator[dict[str, Any]]:
    """Yield the records of a parquet file."""
    with open(path, "rb") as head:
        require_kind(head.read(HEAD_BYTES), "parquet", name)
    # A row group may be the whole file, so it is read through a buffer and a few records at a time.
    with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        _require_columns(file.schema_arrow, columns, name)
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        # Mean bytes of a record in the row group with the longest ones.
        longest = max(
            (group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0
        )
        # 4 MB of records at a time: 256 of up to 15 kB, or 4 of a megabyte.
        records = min(max(_BYTES_PER_BATCH // max(longest, 1), 1), _RECORDS_PER_BATCH)
        # The number in the file of the batch's first record.
        first = 0
        for batch in file.iter_batches(records, columns=columns, use_threads=False):
            yield from _rows(batch, first, name)
            first += batch.num_rows


def _arrow(path: Path, columns: list[str] | None, name: str) -> Iterator[dict[str, Any]]:
    """Yield the records of an Arrow file or stream, as `datasets` writes them."""
    with pa.memory_map(str(path)) as file:
        head = bytes(file.read(HEAD_BYTES))
        file.seek(0)
        is_file = head.startswith(b"ARROW1\0\0")
        require_kind(head, "Arrow", name)
        # A stream begins with ff ff ff ff, or before Arrow 0.15 with the length of its schema.
        length = int.from_bytes(head[:4], "little")
        if not is_file and length > file.size() and length != _STREAM_MARK:
            fault = "holds no Arrow data, although its name says so"
            raise PipelineError(f"{name}: {fault}; rename it or download it again")
        reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
        _require_columns(reader.schema, columns, name)
        first = 0
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        for batch in batches:
            kept = batch if columns is None else batch.select(columns)
            _validate(kept, first, name)
            for start in range(0, kept.num_rows, _RECORDS_PER_BATCH):
                yield from _rows(kept.slice(start, _RECORDS_PER_BATCH), first + start, name)
            first += batch.num_rows
        # A second stream in the file would not be read.
        if not is_file and file.read(HEAD_BYTES).strip(b"\0"):
            raise PipelineError(
                f"{name}: has other data behind its Arrow stream; keep one stream a file"
            )


def _require_columns(schema: pa.Schema, columns: list[str] | None, name: str) -> None:
    """Raise PipelineError if a column is missing or there twice; None checks all columns."""
    shown = ", ".join(printable(column) for column in schema.names[:_COLUMNS_SHOWN])
    for column in schema.names if columns is None else columns:
        count = schema.names.count(column)
        if count == 0:
            advice = f"its columns are {shown or 'none'}"
            raise PipelineError(f"{name}: has no column `{column}`; {advice}")
        if count > 1:
            column = printable(column)
            raise PipelineError(f"{name}: has {count} columns `{column}`; keep one of them")


def _validate(batch: pa.RecordBatch, first: int, name: str) -> None:
    # pyarrow uses the offsets of strings unchecked, so damaged ones would read beyond the file.
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        reason = printable(" ".join(str(error).split()))
        where = f"{name}: one of records {first} to {first + batch.num_rows - 1} is damaged"
        raise PipelineError(f"{where} ({reason}); download the file again") from None


def _rows(batch: pa.RecordBatch, first: int, name: str) -> list[dict[str, Any]]:
    """Return the rows of a batch, which begins with the file's record `first`."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
        return rows
    except UnicodeDecodeError:
        # Find the row, for the message.
        for row in range(batch.num_rows):
            try:
                batch.slice(row, 1).to_pylist()
            except UnicodeDecodeError as error:
                where = f"{name}: record {first + row}"
                raise PipelineError(not_utf8_field(where, error)) from None
        raise


def _text(file: Any, name: str, start: int) -> dict[str, Any]:
    """Return the whole content as one record's `text`, with its line ends unchanged."""
    # Decodes chunks, and keeps the bytes of a character that a chunk cuts.
    decoder = codecs.getincrementaldecoder("utf-8")()
    parts: list[str] = []
    characters, place = 0, start
    # Stops after more characters than a document may have; DocumentWriter refuses those.
    while characters <= LONGEST_DOCUMENT:
        chunk = file.read(_BUFFER_BYTES)
        # Where the bytes that the decoder still has begin: its errors count from there.
        begin = place - len(decoder.getstate()[0])
        try:
            parts.append(decoder.decode(chunk, final=not chunk))
        except UnicodeDecodeError as error:
            raise PipelineError(not_utf8(f"{name}: its text", error, begin)) from None
        if (zero := chunk.find(b"\0")) >= 0:
            raise PipelineError(zero_byte(name, place + zero))
        if not chunk:
            break
        characters += len(parts[-1])
        place += len(chunk)
    return {"text": "".join(parts)}
