"""Open a file of text, compressed or not, and skip its byte-order mark."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, FileIO, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from common.errors import PipelineError
from model.sources.pointers import BYTE_ORDER_MARK, HEAD_BYTES, fault_of

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_BUFFER_BYTES = 1 << 20
_GZIP_CHUNK_BYTES = 1 << 17
# First bytes of a kind of file, the kind's name, and what to do with such a file.
_KINDS = (
    (b"\x1f\x8b", "gzip", "name it .gz"),
    (b"\x28\xb5\x2f\xfd", "zstd", "name it .zst"),
    (b"PK\x03\x04", "zip", "unpack it with unzip"),
    (b"PK\x05\x06", "zip", "unpack it with unzip"),
    (b"BZh91AY&SY", "bzip2", "unpack it with bzip2 -d"),
    (b"\xfd7zXZ\0", "xz", "unpack it with xz -d"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip", "unpack it with 7z x"),
    (b"Rar!\x1a\x07", "RAR", "unpack it with unrar x"),
    (b"\x04\x22\x4d\x18", "lz4", "unpack it with lz4 -d"),
    (b"PAR1\x15", "parquet", "name it .parquet"),
    (b"PARE", "encrypted parquet", "decrypt it"),
    (b"ARROW1\0\0", "Arrow", "name it .arrow"),
    (b"FEA1\0", "Feather version 1", "write it as .parquet: pyarrow.feather.read_table reads it"),
    (b"%PDF-", "PDF", "take its text out"),
    (b"%!PS-", "PostScript", "take its text out"),
    (b"{\\rtf1", "RTF", "take its text out"),
)
_REQUIRED = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd", "parquet": b"PAR1"}
# In this order, since UTF-32's little-endian mark begins with UTF-16's.
_MARKS = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


@contextmanager
def open_content(path: Path, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """Yield the decompressed content after its UTF-8 byte-order mark, and the mark's length.

    Messages call the file `name`. Raises PipelineError if the first bytes are not UTF-8 text, or
    not compressed as the name says. Reading raises OSError or EOFError if the file is cut off.
    """
    compression = COMPRESSIONS.get(path.suffix)
    with open(path, "rb") as file:
        require_kind(file.read(HEAD_BYTES), compression, name)
    with _open(path, compression) as content:
        head = content.read(HEAD_BYTES)
    mark = 0
    # Files that were joined or converted twice may have several marks.
    while head.startswith(BYTE_ORDER_MARK, mark):
        mark += len(BYTE_ORDER_MARK)
    _require_text(head[mark:], mark, "its content, decompressed, " if compression else "", name)
    with _open(path, compression) as content:
        content.read(mark)
        yield content, mark


def require_kind(head: bytes, expected: str | None, name: str) -> None:
    """Raise PipelineError if a file's first bytes are not of kind `expected` (None: text)."""
    found, advice = _kind_of(head)
    if found == expected:
        return
    if found is not None:
        fault = f"holds {found} data, not {expected or 'text'} as its name says"
        raise PipelineError(f"{name}: {fault}; {advice}")
    if expected in _REQUIRED and not head.startswith(_REQUIRED[expected]):
        fault = f"holds no {expected} data, although its name says so"
        raise PipelineError(f"{name}: {fault}; rename it or download it again")


def _kind_of(head: bytes) -> tuple[str | None, str]:
    """Return the kind of file that first bytes tell, and what to do with it; None for text."""
    # tar has its mark behind the first file's name and attributes.
    if head[257:262] == b"ustar":
        return "tar", "unpack it with tar -xf"
    # 0x184D2A50 to 5F, little-endian: zstd data may begin with a frame that decoders skip.
    if 0x50 <= head[0] <= 0x5F and head[1:4] == b"\x2a\x4d\x18":
        return "zstd", "name it .zst"
    found = ((kind, advice) for magic, kind, advice in _KINDS if head.startswith(magic))
    return next(found, (None, ""))


def _require_text(head: bytes, mark: int, inside: str, name: str) -> None:
    """Raise PipelineError if first bytes, behind `mark` bytes of a mark, are not UTF-8 text.

    `inside` begins the message's words about compressed content.
    """
    if fault := fault_of(head):
        raise PipelineError(f"{name}: {inside}{fault}")
    found, advice = _kind_of(head)
    if found is not None:
        fault = f"{inside}holds {found} data, not text"
        raise PipelineError(f"{name}: {fault}; decompress it once, then {advice}")
    for first, encoding in _MARKS.items():
        if head.startswith(first):
            advice = f"convert it: iconv -f {encoding} -t UTF-8 OLD > NEW"
            raise PipelineError(f"{name}: {inside}is {encoding} text; {advice}")
    if b"\0" in head:
        raise PipelineError(zero_byte(name, mark + head.index(b"\0")))


def zero_byte(name: str, place: int) -> str:
    """Return the message for a zero byte at byte `place` of the content."""
    advice = "convert it to UTF-8 text without zero bytes"
    return f"{name}: byte {place} is zero, as in UTF-16 and in binary files; {advice}"


def not_utf8(what: str, error: UnicodeDecodeError, start: int) -> str:
    """Return the message for `what`; `error.object` begins at byte `start` of the content."""
    byte, place = error.object[error.start], start + error.start
    advice = "convert the file from its encoding: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
    return f"{what} is not UTF-8: byte 0x{byte:02x} at byte {place}; {advice}"


def not_utf8_field(what: str, error: UnicodeDecodeError) -> str:
    """Return the message for a field `what` of a record; places count from its text's start."""
    byte, place = error.object[error.start], error.start
    advice = "write the file anew, with text in UTF-8"
    return f"{what} is not UTF-8: byte 0x{byte:02x} at byte {place} of a text; {advice}"


def _open(path: Path, compression: str | None) -> BinaryIO:
    """Open the decompressed content of a file."""
    if compression == "gzip":
        return BufferedReader(_Gzip(path), _BUFFER_BYTES)
    if compression == "zstd":
        # pyarrow's stream reads all frames of a file, and raises if the last one is cut off.
        stream = pa.input_stream(str(path), compression="zstd", buffer_size=_BUFFER_BYTES)
        return BufferedReader(stream, _BUFFER_BYTES)
    return open(path, "rb", buffering=_BUFFER_BYTES)


class _Gzip(RawIOBase):
    """The content of all members of a gzip file; zero bytes after a member are padding.

    gzip itself reads files so. pyarrow's stream does not accept padding, and Python's module gzip
    takes a tenth more time.
    """

    def __init__(self, path: Path):
        self._file = FileIO(path)
        # 31: a window of 2¹⁵ bytes, with gzip's header and checksum.
        self._decoder = zlib.decompressobj(wbits=31)
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` and return the number of bytes, 0 at the end; EOFError if it is cut off."""
        room = memoryview(buffer).nbytes
        while True:
            if self._decoder.eof and not self._begin_member():
                return 0
            chunk = self._pending or self._file.read(_GZIP_CHUNK_BYTES)
            # A chunk may give more than `room` bytes; its unread part waits in the decoder's tail.
            content = self._decoder.decompress(chunk, room)
            if not chunk and not content:
                raise EOFError("the gzip data is cut off")
            decoder = self._decoder
            self._pending = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
            if content:
                buffer[: len(content)] = content
                return len(content)

    def _begin_member(self) -> bool:
        """Skip padding and prepare the next member; return whether there is one."""
        following = self._pending.lstrip(b"\0")
        while not following:
            chunk = self._file.read(_GZIP_CHUNK_BYTES)
            if not chunk:
                return False
            following = chunk.lstrip(b"\0")
        # The first byte of every member.
        if following[:1] != b"\x1f":
            raise OSError("behind its gzip data is something else")
        self._pending = following
        self._decoder = zlib.decompressobj(wbits=31)
        return True

    def close(self) -> None:
        self._file.close()
        super().close()
