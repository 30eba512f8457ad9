"""Read JSON lines: one object a line, blank lines skipped, every error with record and line."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO, NoReturn

from common.errors import PipelineError, printable
from model.data.documents import LONGEST_DOCUMENT
from model.sources.pointers import BYTE_ORDER_MARK
from model.sources.text_streams import not_utf8, zero_byte

# Bytes of a line at most, since a compressed file of megabytes may hold a line of terabytes.
LONGEST_LINE = 2 * LONGEST_DOCUMENT
_BLANK = b" \t\r\n"
_LIST = "it is one JSON list: make lines of it with jq -c '.[]'"
# The escape of a half surrogate pair, \ud800 to \udfff.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class _RepeatedKey(ValueError):
    """A key that an object has twice: readers differ in which value they take."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict; raise _RepeatedKey if it has a key twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKey(next(key for key in keys if keys.count(key) > 1))
    return found


_decode = json.JSONDecoder(object_pairs_hook=_object).decode


def read_json_lines(
    file: BinaryIO, name: str, start: int = 0, columns: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the objects of `file`, which is at byte `start` of the content.

    Records count from 0, lines from 1. Only a line feed ends a line: U+2028 and Unicode's other
    line separators are text. Raises PipelineError, with `name`, for

    - a line that is not one JSON object in UTF-8, or is longer than LONGEST_LINE,
    - an object that has a key twice,
    - a text with half a surrogate pair, in the fields `columns` if they are given,
    - a file without records.
    """
    number, place = 0, start
    # One byte more than allowed, so a line of that length is known to be too long.
    lines = iter(partial(file.readline, LONGEST_LINE + 1), b"")
    for line_number, line in enumerate(lines, start=1):
        if len(line) > LONGEST_LINE:
            reason = f"record {number} is longer than {LONGEST_LINE} bytes"
            advice = "end each record with a line feed, or split it"
            if _begins_list(line, line_number):
                advice = _LIST
            raise PipelineError(f"{name}: {reason}; {advice}")
        try:
            record = _decode(line.decode())
        except UnicodeDecodeError as error:
            raise PipelineError(not_utf8(f"{name}: record {number}", error, place)) from None
        except (ValueError, RecursionError) as error:
            # Checked only after decoding failed, since blank lines are rare.
            if not line.strip(_BLANK):
                place += len(line)
                continue
            _refuse(name, number, line, line_number, place, error)
        if not isinstance(record, dict):
            reason = f"record {number} is no JSON object (line {line_number})"
            advice = _LIST if _begins_list(line, line_number) else "write one object a line"
            raise PipelineError(f"{name}: {reason}; {advice}")
        # Only an escape can make half a pair: its bytes would not be UTF-8. Most lines have no
        # backslash, and searching one byte is faster than searching the pattern.
        escaped = b"\\" in line and b"\\u" in line and _SURROGATE.search(line)
        if escaped and (key := _half_pair(_chosen(record, columns))) is not None:
            where = f"{name}: record {number} has half a surrogate pair in `{printable(key)}`"
            raise PipelineError(f"{where}, which is no text; correct the record")
        yield record
        number += 1
        place += len(line)
    # A file of blank lines is more likely a fault than an empty source.
    if number == 0:
        advice = "download it again, or take it out of the source"
        raise PipelineError(f"{name}: has no records, only blank lines; {advice}")


def _refuse(
    name: str, record: int, line: bytes, number: int, place: int, error: Exception
) -> NoReturn:
    """Raise PipelineError for a line that could not be decoded, with advice by its kind."""
    what = f"{name}: record {record}"
    if b"\0" in line:
        raise PipelineError(f"{zero_byte(name, place + line.index(0))} (line {number})")
    if isinstance(error, _RepeatedKey):
        key = printable(str(error)[:80].encode(errors="replace").decode())
        fault = f"has the key `{key}` twice in one object (line {number})"
        raise PipelineError(f"{what} {fault}; keep one of them")
    reason, advice = str(error), "correct the record"
    if isinstance(error, RecursionError):
        reason = "nested too deep"
    elif isinstance(error, json.JSONDecodeError):
        reason = f"{error.msg.partition(' (')[0].removesuffix(' at')} at column {error.colno}"
        advice = _advice(line, number, error)
    raise PipelineError(f"{what} is not JSON (line {number}: {printable(reason)}); {advice}")


def _advice(line: bytes, number: int, error: json.JSONDecodeError) -> str:
    """Return what to do about a line that is not JSON."""
    stripped = line.strip(_BLANK)
    if stripped.startswith(BYTE_ORDER_MARK):
        return "take out the byte-order mark that the line begins with"
    if b"\r" in stripped:
        return "end lines with a line feed, not a carriage return alone: tr '\\r' '\\n'"
    if _begins_list(line, number):
        return _LIST
    if number == 1 and stripped == b"{":
        return "write one object a line: jq -c ."
    if error.msg == "Extra data":
        return "put a line feed between two records"
    return "correct the record, or download the file again"


def _begins_list(line: bytes, number: int) -> bool:
    """Return whether the file's first line begins a JSON list."""
    return number == 1 and line.lstrip(_BLANK).startswith(b"[")


def _chosen(record: dict[str, Any], columns: list[str] | None) -> dict[str, Any]:
    """Return the fields `columns` of a record, as far as it has them; all for None."""
    if columns is None:
        return record
    return {key: record[key] for key in columns if key in record}


def _half_pair(value: Any, key: str = "") -> str | None:
    """Return the path of keys to a text with half a surrogate pair, None if there is none.

    In {"messages": [{"text": "\\ud83d"}]} it is `messages.0.text`. Keys are checked as well.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return key
        return None
    children: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for child, inner in children:
        below = f"{key}.{child}" if key else str(child)
        if _half_pair(below) is not None:
            return below.encode(errors="backslashreplace").decode()
        if (found := _half_pair(inner, below)) is not None:
            return found
    return None
