"""Read the records of one file: parquet, arrow, JSON lines or text, the last two also compressed.

Memory holds a few records at a time.
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
_STREAM_MARK = 0xFFFFFFFF
_ZSTD_WINDOW = "Frame requires too much memory"


def format_of(path: Path) -> str | None:
    """Return the suffix that tells a file's format, None where it is none that is read here."""
    *rest, last = ["", *path.suffixes]
    kind = rest[-1] if last in COMPRESSIONS else last
    known = {".jsonl", ".txt"} | ({".parquet", ".arrow"} if last == kind else set())
    return kind if kind in known else None


def read_records(
    path: Path, columns: list[str] | None = None, name: str | None = None, kind: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the records of one file, its format `kind` taken from its name by default.

    `name` is what messages call the file. If `columns` are given, only they are read of parquet and
    arrow: a file without one of them is an error, and other columns may be anything. Of JSON lines,
    half a surrogate pair is an error in `columns` only. Raises PipelineError, with the record where
    there is one.
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
    with open(path, "rb") as head:
        require_kind(head.read(HEAD_BYTES), "parquet", name)
    # A row group may be all of its file: read buffered, and few long records at a time.
    with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        _require_columns(file.schema_arrow, columns, name)
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        longest = max(
            (group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0
        )
        records = min(max(_BYTES_PER_BATCH // max(longest, 1), 1), _RECORDS_PER_BATCH)
        first = 0
        for batch in file.iter_batches(records, columns=columns, use_threads=False):
            yield from _rows(batch, first, name)
            first += batch.num_rows


def _arrow(path: Path, columns: list[str] | None, name: str) -> Iterator[dict[str, Any]]:
    with pa.memory_map(str(path)) as file:
        head = bytes(file.read(HEAD_BYTES))
        file.seek(0)
        is_file = head.startswith(b"ARROW1\0\0")
        require_kind(head, "Arrow", name)
        # A stream begins with ff ff ff ff, or before Arrow 0.15 with the length of its schema.
        length = int.from_bytes(head[:4], "little")
        if not is_file and length > file.size() and length != _STREAM_MARK:
            fault = "holds no Arrow data, as its name says it does"
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
        # Of two streams in one file the second would not be read.
        if not is_file and file.read(HEAD_BYTES).strip(b"\0"):
            raise PipelineError(
                f"{name}: has other data behind its Arrow stream; keep one stream a file"
            )


def _require_columns(schema: pa.Schema, columns: list[str] | None, name: str) -> None:
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
    # Offsets are used as they stand: damaged ones read beyond the file.
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        reason = printable(" ".join(str(error).split()))
        where = f"{name}: one of records {first} to {first + batch.num_rows - 1} is damaged"
        raise PipelineError(f"{where} ({reason}); download the file again") from None


def _rows(batch: pa.RecordBatch, first: int, name: str) -> list[dict[str, Any]]:
    """Return the rows of a batch, of which the first is the file's record `first`."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
        return rows
    except UnicodeDecodeError:
        for row in range(batch.num_rows):
            try:
                batch.slice(row, 1).to_pylist()
            except UnicodeDecodeError as error:
                where = f"{name}: record {first + row}"
                raise PipelineError(not_utf8_field(where, error)) from None
        raise


def _text(file: Any, name: str, start: int) -> dict[str, Any]:
    """Return the whole content as one record's `text`; its own ends of lines stay."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    parts: list[str] = []
    characters, place = 0, start
    # One character more than a document may have, for DocumentWriter to refuse.
    while characters <= LONGEST_DOCUMENT:
        chunk = file.read(_BUFFER_BYTES)
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
