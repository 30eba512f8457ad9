import base64
import bz2
import contextlib
import gzip
import json
import lzma
import os
import re
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from json_line_cases import BAD_LINES, GOOD, LINES_THAT_ARE_READ
from mutations import reads_or_says_why
from raw_files import NAMES, arrow_bytes, compress, file_of, lines, parquet_bytes, zstd

from common.errors import PipelineError
from model.sources import json_lines, text_streams
from model.sources.benchmark_passages import text_records
from model.sources.record_readers import read_records


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_all_members_and_frames_are_read(tmp_path, name):
    compress = gzip.compress if name.endswith("gz") else zstd
    texts = [f"{number} " + "long " * 100_000 for number in range(3)]
    content = b"".join(
        compress(part)
        for part in (
            lines(texts[0]),
            b"",
            lines(texts[1])[:1000],
            lines(texts[1])[1000:],
            lines(texts[2]),
        )
    )
    (tmp_path / name).write_bytes(content)
    assert [record["text"] for record in read_records(tmp_path / name)] == texts


@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
@pytest.mark.parametrize("compressed", [".gz", ".zst", ""])
def test_text_and_lines_are_read_compressed_or_not(tmp_path, kind, compressed):
    content = "naïve\ntext".encode() if kind == ".txt" else lines("naïve\ntext")
    path = tmp_path / f"a{kind}{compressed}"
    path.write_bytes({".gz": gzip.compress, ".zst": zstd, "": bytes}[compressed](content))
    assert [record["text"] for record in read_records(path)] == ["naïve\ntext"]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.txt.gz", "a.txt.zst"])
@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("missing", [1, 4, 8, 20, 200])
def test_a_truncated_file_is_one_line(tmp_path, name, members, missing):
    compress = gzip.compress if name.endswith("gz") else zstd
    content = lines(*[f"{number} {number**9}" for number in range(200)])
    (tmp_path / name).write_bytes((compress(content) * members)[:-missing])
    with pytest.raises(PipelineError, match=f"{name}: cannot be read to its end") as caught:
        list(read_records(tmp_path / name))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.zst"])
def test_rubbish_behind_a_compressed_file_is_one_line(tmp_path, name):
    compress = gzip.compress if name.endswith("gz") else zstd
    (tmp_path / name).write_bytes(compress(lines("whole")) + b"rubbish behind it")
    with pytest.raises(PipelineError, match=f"{name}: cannot be read to its end"):
        list(read_records(tmp_path / name))


def texts_of(path: Path) -> list[str]:
    return [
        document.text for document in text_records(path.name, read_records(path, ["text"]), "x")
    ]


def refused(path: Path, content: bytes, message: str) -> None:
    """Assert that the file is refused in one line that begins with its name."""
    path.write_bytes(content)
    with pytest.raises(PipelineError, match=message) as caught:
        texts_of(path)
    assert "\n" not in str(caught.value)
    assert re.match(
        rf"({re.escape(str(path.parent))}/)?{re.escape(path.name)}: ", str(caught.value)
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize(("bad", "message"), BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_with_its_record(tmp_path, name, bad, message):
    refused(tmp_path / name, compress(GOOD + bad, name), f"record 5000 {message}")


@pytest.mark.parametrize("place", [0, 10, 4000])
def test_a_zero_byte_in_lines_is_named_with_its_place(tmp_path, place):
    content = GOOD[:place] + b"\0" + GOOD[place:]
    refused(
        tmp_path / "a.jsonl",
        content,
        f"a.jsonl: byte {place} is zero, as in UTF-16 and in binary files",
    )
    beyond = len(GOOD) + 3
    refused(
        tmp_path / "a.jsonl", GOOD + b"{  \0}", f"a.jsonl: byte {beyond} is zero.* \\(line 5001\\)"
    )


@pytest.mark.parametrize(
    ("field", "place"), [(b'[{"k": ["\\ud83d"]}]', "m.0.k.0"), (b'{"\\ud83d": 1}', r"m.\\ud83d")]
)
def test_half_a_pair_is_refused_in_any_field_where_all_are_read(tmp_path, field, place):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a", "m": ' + field + b"}\n")
    with pytest.raises(PipelineError, match=f"record 0 has half a surrogate pair in `{place}`"):
        list(read_records(tmp_path / "a.jsonl"))


def test_a_list_that_is_longer_than_a_line_may_be_says_how_to_make_lines_of_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(json_lines, "LONGEST_LINE", 30)
    refused(
        tmp_path / "a.jsonl",
        b'[{"text": "a"}, {"text": "b"}, {"text": "c"}]',
        "record 0 is longer than 30 .*jq -c",
    )
    refused(
        tmp_path / "b.jsonl",
        b'{"text": "a long text, and longer"}',
        "record 0 is longer than 30 .*with a line feed",
    )


def test_other_json_says_how_to_make_lines_of_it(tmp_path):
    refused(
        tmp_path / "a.jsonl",
        b'[{"text": "a"},\n{"text": "b"}]\n',
        "record 0 is not JSON .*jq -c '.*'",
    )
    refused(
        tmp_path / "a.jsonl", b' [{"text": "a"}]\n', "record 0 is no JSON object .*jq -c '.\\[\\]'$"
    )
    refused(
        tmp_path / "a.jsonl",
        b'{\n  "text": "a"\n}\n',
        "record 0 is not JSON .*write one object a line: jq -c .",
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize(
    ("content", "texts"), LINES_THAT_ARE_READ.values(), ids=LINES_THAT_ARE_READ
)
def test_what_json_lines_may_have_is_read(tmp_path, name, content, texts):
    (tmp_path / name).write_bytes(compress(content, name))
    assert texts_of(tmp_path / name) == texts


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_a_text_is_read_as_it_stands_behind_its_byte_order_mark(tmp_path, name):
    text = "na\u00efve\r\ntext\rof\u2028lines\x0c\ufeff\n\n"
    for mark in (b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf" * 2):
        (tmp_path / name).write_bytes(compress(mark + text.encode(), name))
        assert texts_of(tmp_path / name) == [text]
    refused(tmp_path / name, compress(b"\xef\xbb\xbf", name), "is empty")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst"])
def test_what_is_no_utf8_is_named_with_its_byte(tmp_path, name):
    long = "é".encode() * 800_000  # longer than the reader's buffer
    for content, byte, place in (
        (b"na\xefve", "ef", 2),
        (b"\xef\xbb\xbfna\xefve", "ef", 5),
        (long + b"\xff", "ff", len(long)),
        (b"a" + long[:-1], "c3", len(long) - 1),
    ):
        refused(
            tmp_path / name,
            compress(content, name),
            f"its text is not UTF-8: byte 0x{byte} at byte {place}; convert",
        )
    for place in (0, 3, 5000, len(long)):
        zero = long[: place // 2 * 2] + b"\0" + long[place // 2 * 2 :]
        refused(tmp_path / name, compress(zero, name), f"byte {place // 2 * 2} is zero")


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.zst"])
@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
)
@pytest.mark.parametrize("marked", [True, False])
def test_utf16_and_utf32_are_named(tmp_path, name, encoding, marked):
    content = ("\ufeff" * marked + '{"text": "a"}\n').encode(encoding)
    kind = encoding[:6].upper()
    has_mark = marked or encoding == kind.lower()
    message = (
        f"is {kind} text; convert it: iconv -f {kind} -t UTF-8"
        if has_mark
        else "is zero, as in UTF-16"
    )
    refused(tmp_path / name, compress(content, name), message)


OTHER_KINDS = {
    "zip": (
        b"PK\x03\x04" + b"x" * 30,
        "holds zip data, not {} as its name says; unpack it with unzip",
    ),
    "gzip": (gzip.compress(b"x"), "holds gzip data, not {} as its name says; name it .gz"),
    "zstd": (zstd(b"x"), "holds zstd data, not {} as its name says; name it .zst"),
    "bzip2": (
        bz2.compress(b"x"),
        "holds bzip2 data, not {} as its name says; unpack it with bzip2 -d",
    ),
    "xz": (lzma.compress(b"x"), "holds xz data, not {} as its name says; unpack it with xz -d"),
    "tar": (
        b"a.txt".ljust(257, b"\0") + b"ustar\x0000" + b"\0" * 248,
        "holds tar data, not {} as its name says",
    ),
    "parquet": (
        file_of("a.parquet", ["x"]),
        "holds parquet data, not {} as its name says; name it .parquet",
    ),
    "arrow": (
        file_of("file.arrow", ["x"]),
        "holds Arrow data, not {} as its name says; name it .arrow",
    ),
    "feather 1": (
        b"FEA1\0\0\0\0x",
        "holds Feather version 1 data, not {} as its name says; write it as .parquet",
    ),
    "PDF": (b"%PDF-1.7\n", "holds PDF data, not {} as its name says"),
    "RTF": (rb"{\rtf1\ansi text}", "holds RTF data, not {} as its name says"),
    "PostScript": (b"%!PS-Adobe-3.0\n", "holds PostScript data, not {} as its name says"),
}
KINDS = {
    "a.txt": "text",
    "a.jsonl": "text",
    "a.jsonl.gz": "gzip",
    "a.txt.zst": "zstd",
    "a.parquet": "parquet",
    "a.arrow": "Arrow",
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_a_file_of_another_kind_than_its_name_says_is_named(tmp_path, name, kind):
    content, message = OTHER_KINDS[kind]
    (tmp_path / name).write_bytes(content)
    if kind in name or (kind, name[-3:]) in (("gzip", ".gz"), ("zstd", "zst")):
        with contextlib.suppress(PipelineError):
            list(read_records(tmp_path / name))
        return
    refused(tmp_path / name, content, message.format(KINDS[name]))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.zst"])
def test_what_is_not_compressed_or_compressed_twice_is_named(tmp_path, name):
    refused(
        tmp_path / name,
        lines("a"),
        "holds no (gzip|zstd) data, although its name says so; rename it",
    )
    for binary in ("a.parquet", "a.arrow"):
        refused(
            tmp_path / binary,
            lines("a"),
            "holds no (parquet|Arrow) data, although its name says so; rename it",
        )
    refused(
        tmp_path / name,
        compress(compress(lines("a"), name), name),
        "its content, decompressed, holds (gzip|zstd) data",
    )
    refused(
        tmp_path / name,
        compress(OTHER_KINDS["tar"][0], name),
        "its content, decompressed, holds tar data, not text",
    )


def test_gzip_is_read_as_gzip_reads_it(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    one, two = gzip.compress(lines("one")), gzip.compress(lines("two"))
    for zeros in (1, 7, 8, 512, 300_000):
        path.write_bytes(one + two + b"\0" * zeros)
        assert texts_of(path) == ["one", "two"]
        path.write_bytes(one + b"\0" * zeros + two)
        assert texts_of(path) == ["one", "two"]
    refused(
        path,
        one + b"\0" * 512 + b"rubbish",
        "cannot be read to its end .behind its gzip data is something else",
    )
    refused(path, one + two[:5], "cannot be read to its end .the gzip data is cut off")
    refused(path, one + b"\x1f", "cannot be read to its end .the gzip data is cut off")
    refused(path, one[:-8] + b"\0" * 8, "cannot be read to its end .*incorrect data check")
    refused(path, gzip.compress(b""), "its content, decompressed, is empty")
    path.write_bytes(gzip.compress(b"") + one)
    assert texts_of(path) == ["one"]


SKIPPED = struct.pack("<II", 0x184D2A57, 5) + b"hello"


def test_zstd_is_read_as_zstd_reads_it(tmp_path):
    path = tmp_path / "a.jsonl.zst"
    one, two = zstd(lines("one")), zstd(lines("two"))
    for content in (SKIPPED + one + two, one + SKIPPED + two, one + two + SKIPPED):
        path.write_bytes(content)
        assert texts_of(path) == ["one", "two"]
    refused(path, SKIPPED, "its content, decompressed, is empty")
    refused(path, one + SKIPPED[:-2], "cannot be read to its end .Truncated compressed stream")
    refused(path, one + b"\0" * 512, "cannot be read to its end .*Unknown frame descriptor")


def test_a_long_window_of_zstd_is_refused_with_the_way_out(tmp_path):
    # As `zstd --long=28` writes it; one raw block.
    content = b'{"text": "A dump that was compressed with zstd --long=31."}\n'
    frame = b"\x28\xb5\x2f\xfd\x00\x90" + ((len(content) << 3) | 1).to_bytes(3, "little") + content
    refused(
        tmp_path / "a.jsonl.zst",
        frame,
        r"too much memory for decoding\); decompress it with zstd --long=31 -d",
    )


TEXTS = [f"Naïve text {number}." for number in range(40)]
STRINGS = {
    "string": pa.array(TEXTS),
    "large_string": pa.array(TEXTS, pa.large_string()),
    "string_view": pa.array(TEXTS, pa.string_view()),
    "dictionary": pa.array(TEXTS).dictionary_encode(),
    "binary": pa.array([text.encode() for text in TEXTS]),
    "large_binary": pa.array([text.encode() for text in TEXTS], pa.large_binary()),
}


@pytest.mark.parametrize(
    "write", [parquet_bytes, arrow_bytes, partial(arrow_bytes, new=pa.ipc.new_file)]
)
@pytest.mark.parametrize("kind", STRINGS)
def test_a_text_column_of_any_string_type_is_read_whatever_the_others_are(tmp_path, write, kind):
    path = tmp_path / ("a.parquet" if write is parquet_bytes else "a.arrow")
    others = {
        "id": pa.array([b"\xff"] * 40),
        "doc": pa.array([{"x": [number]} for number in range(40)]),
    }
    for table in ({"text": STRINGS[kind], **others}, {**others, "text": STRINGS[kind]}):
        path.write_bytes(write(pa.table(table)))
        assert texts_of(path) == TEXTS


@pytest.mark.parametrize(
    "write", [parquet_bytes, arrow_bytes, partial(arrow_bytes, new=pa.ipc.new_file)]
)
def test_a_column_that_is_no_text_is_named(tmp_path, write):
    path = tmp_path / ("a.parquet" if write is parquet_bytes else "a.arrow")
    table = pa.table({"body": TEXTS, "id": range(40)})
    refused(path, write(table), "has no column `text`; its columns are body, id")
    refused(
        path,
        write(pa.table([TEXTS, TEXTS], names=["text", "text"])),
        "has 2 columns `text`; keep one of them",
    )
    for value, found in (
        (None, "null"),
        (7, "a number"),
        ([1], "a list"),
        ({"a": 1}, "an object"),
        (True, "a truth value"),
    ):
        column = (
            pa.array([value] * 40)
            if value is not None
            else pa.array([*TEXTS[:33], None, *TEXTS[34:]])
        )
        record = 33 if value is None else 0
        message = rf"record {record} has no string field `text` \(it is {found}\)"
        refused(path, write(pa.table({"text": column})), message)
    texts = pa.array(
        [
            *(text.encode() for text in TEXTS[:30]),
            b"na\xefve",
            *(text.encode() for text in TEXTS[31:]),
        ]
    )
    refused(path, write(pa.table({"text": texts})), "record 30 is not UTF-8: byte 0xef at byte 2")
    damaged = pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())
    message = (
        r"record 30 is not UTF-8: byte 0xef"
        if write is parquet_bytes
        else "one of records 16 to 31 is damaged"
    )
    refused(path, write(pa.table({"text": damaged})), message)


def test_two_arrow_streams_in_a_file_are_refused(tmp_path):
    content = arrow_bytes(pa.table({"text": TEXTS}))
    refused(
        tmp_path / "a.arrow",
        content + content,
        "has other data behind its Arrow stream; keep one stream a file",
    )
    (tmp_path / "a.arrow").write_bytes(content + b"\0" * 512)
    assert texts_of(tmp_path / "a.arrow") == TEXTS


def test_feather_and_compressed_arrow_are_read(tmp_path):
    path = tmp_path / "a.arrow"
    for compression in ("lz4", "zstd"):
        options = pa.ipc.IpcWriteOptions(compression=compression)
        for new in (pa.ipc.new_stream, pa.ipc.new_file):
            path.write_bytes(arrow_bytes(pa.table({"text": TEXTS}), partial(new, options=options)))
            assert texts_of(path) == TEXTS


FAULTS = {
    "cut": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "one byte": lambda content: content[:1],
    "rubbish behind": lambda content: content + b"\xff rubbish",
    "zeros behind": lambda content: content + b"\0" * 512,
    "zeros before": lambda content: b"\0" * 512 + content,
    "zeros inside": lambda content: content[:40] + b"\0" * 512 + content[40:],
    "mark before": lambda content: b"\xef\xbb\xbf" + content,
    "line feeds become CRLF": lambda content: content.replace(b"\n", b"\r\n"),
    "line feeds become CR": lambda content: content.replace(b"\n", b"\r"),
    "UTF-16": lambda content: content.decode("latin-1").encode("utf-16"),
    "as UTF-8 of Latin-1": lambda content: content.decode("latin-1").encode(),
    "no UTF-8, replaced": lambda content: content.decode(errors="replace").encode(),
    "hexadecimal": lambda content: content.hex().encode(),
    "base64": base64.encodebytes,
    "twice": lambda content: content + content,
    "backwards": lambda content: content[::-1],
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_each_format_is_one_line_or_the_right_records(tmp_path, name, fault):
    """What copies, transfers and editors do to a file; a text has no structure that would show
    it.
    """
    texts = [f"Document {number}: naïve text." for number in range(40)]
    path = tmp_path / name
    path.write_bytes(FAULTS[fault](file_of(name, texts)))
    found: list[str] = []
    if reads_or_says_why(lambda: found.extend(texts_of(path)), name) and ".txt" not in name:
        assert found in (texts, texts + texts), "records were lost"
        assert fault not in (
            "rubbish behind",
            "UTF-16",
            "zeros before",
            "zeros inside",
        ), "it was taken"


def test_without_its_guards_the_reader_takes_faults(tmp_path, monkeypatch):
    """Each fault is refused by the guard that the test takes away."""
    path = tmp_path / "a.jsonl"
    twice, half = b'{"text": "a", "text": "b"}\n', b'{"text": "\\ud83d"}\n'
    refused(path, twice, "twice")
    monkeypatch.setattr(json_lines, "_decode", json.loads)
    assert texts_of(path) == ["b"]
    refused(path, half, "half a surrogate pair")
    monkeypatch.setattr(json_lines, "_half_pair", lambda record: None)
    assert texts_of(path) == ["\ud83d"]
    refused(tmp_path / "b.txt", b"\xff\xfea\0", "is UTF-16 text")
    refused(tmp_path / "c.txt", b"a\0" + b"b" * 9000, "byte 1 is zero")
    refused(
        tmp_path / "d.jsonl.gz",
        gzip.compress(gzip.compress(b"a")),
        "its content, decompressed, holds gzip data",
    )
    monkeypatch.setattr(text_streams, "_require_text", lambda *arguments: None)
    refused(tmp_path / "b.txt", b"\xff\xfea\0", "is not UTF-8")
    refused(tmp_path / "c.txt", b"a\0" + b"b" * 9000, "byte 1 is zero")
    refused(tmp_path / "d.jsonl.gz", gzip.compress(gzip.compress(b"a")), "record 0 is not UTF-8")
    refused(tmp_path / "e.jsonl.gz", zstd(lines("a")), "holds zstd data, not gzip")
    monkeypatch.setattr(text_streams, "require_kind", lambda *arguments: None)
    refused(
        tmp_path / "e.jsonl.gz",
        zstd(lines("a")),
        "cannot be read to its end .*incorrect header check",
    )


PEAK = """
import sys
from pathlib import Path
from model.data.documents import Document, DocumentWriter
from model.sources.record_readers import read_records

def peak():
    return int(next(line for line in open("/proc/self/status") if "VmHWM" in line).split()[1])

before = peak()
with DocumentWriter(Path(sys.argv[2]), "train", 10**12) as writer:
    for record in read_records(Path(sys.argv[1]), ["text"]):
        writer.append(Document(record["text"], "a"))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("documents", [200, 40_000])
def test_memory_does_not_grow_with_a_row_group_or_documents(tmp_path, documents):
    """200 MB of text in one row group, in pages of a few MB: what is read of a file at once is a
    page, at least.
    """
    long = os.urandom(200_000_000 // documents // 2).hex()
    texts = pa.array([f"{number} {long}" for number in range(documents)])
    pq.write_table(
        pa.table({"text": texts}),
        tmp_path / "a.parquet",
        row_group_size=10**9,
        use_dictionary=False,
        write_batch_size=4,
    )
    del texts
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "a.parquet", tmp_path],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150_000, f"{done.stdout} kB"
