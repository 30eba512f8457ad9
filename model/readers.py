"""The records of one file: parquet, arrow, JSON lines or text, the last two also compressed; memory holds a few records."""

import json
from collections.abc import Iterator
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.documents import LONGEST_DOCUMENT
from model.errors import PipelineError

FORMATS = ".parquet, .arrow, .jsonl or .txt, the last two also .gz or .zst"
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_RECORDS_PER_BATCH = 256
_BYTES_PER_BATCH = 4_000_000
_BUFFER_BYTES = 1 << 20
_LONGEST_LINE = 2 * LONGEST_DOCUMENT  # characters; a compressed file of megabytes may hold a line of terabytes


def format_of(path: Path) -> str | None:
    """Return the suffix that tells a file's format, None where it is none that is read here."""
    *rest, last = ["", *path.suffixes]
    kind = rest[-1] if last in _COMPRESSIONS else last
    known = {".jsonl", ".txt"} | ({".parquet", ".arrow"} if last == kind else set())
    return kind if kind in known else None


def read_records(path: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of one file, its format taken from its name; of parquet only `columns`, where they are given."""
    read = {".parquet": _parquet, ".arrow": _arrow, ".jsonl": _json_lines, ".txt": _text}.get(format_of(path) or "")
    if read is None:
        raise PipelineError(f"{path}: unknown format; use {FORMATS}")
    try:
        yield from _parquet(path, columns) if read is _parquet else read(path)
    except (OSError, EOFError, OverflowError, ValueError, RecursionError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"{path}: cannot be read to its end ({reason})") from None


def _parquet(path: Path, columns: list[str] | None) -> Iterator[dict[str, Any]]:
    # A row group may be all of its file: read buffered, and few long records at a time.
    with pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        wanted = None if columns is None else [name for name in columns if name in file.schema_arrow.names]
        groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        longest = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
        records = min(max(_BYTES_PER_BATCH // max(longest, 1), 1), _RECORDS_PER_BATCH)
        for batch in file.iter_batches(records, columns=wanted, use_threads=False):
            yield from batch.to_pylist()


def _arrow(path: Path) -> Iterator[dict[str, Any]]:
    with pa.memory_map(str(path)) as file:
        for batch in pa.ipc.open_stream(file):
            batch.validate(full=True)  # offsets are used as they stand: damaged ones read beyond the file
            for start in range(0, batch.num_rows, _RECORDS_PER_BATCH):
                yield from batch.slice(start, _RECORDS_PER_BATCH).to_pylist()


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with _open_text(path) as file:
        for number, line in enumerate(iter(partial(file.readline, _LONGEST_LINE + 1), "")):
            if len(line) > _LONGEST_LINE:
                raise PipelineError(f"{path}: record {number} is longer than {_LONGEST_LINE} characters; split the file")
            record = json.loads(line)
            if not isinstance(record, dict):
                raise PipelineError(f"{path}: record {number} is no JSON object")
            yield record


def _text(path: Path) -> Iterator[dict[str, Any]]:
    with _open_text(path) as file:
        text = file.read(LONGEST_DOCUMENT + 1)  # one more, for DocumentWriter to refuse
    yield {"text": text}


def _open_text(path: Path) -> TextIOWrapper:
    # pyarrow's streams go on to the next member or frame, and tell a truncated one.
    stream = pa.input_stream(str(path), compression=_COMPRESSIONS.get(path.suffix), buffer_size=_BUFFER_BYTES)
    return TextIOWrapper(stream, encoding="utf-8", newline="\n")  # a text's own ends of lines stay
