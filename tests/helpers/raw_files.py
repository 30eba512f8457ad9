"""Raw files for tests: files that are no data, and one file of each supported format."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq

LFS = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a1" * 32 + b"\nsize 146946961\n"
)
WEB_PAGE = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"
# Content in place of data, and the message's words about it.
STAND_INS = {
    "LFS": (LFS, "is a Git LFS pointer, not the data; run git lfs pull"),
    "LFS with CRLF": (LFS.replace(b"\n", b"\r\n"), "is a Git LFS pointer"),
    "LFS with extensions": (
        LFS.replace(b"oid", b"ext-0-foo sha256:00\noid"),
        "is a Git LFS pointer",
    ),
    "LFS of 2013": (
        LFS.replace(b"git-lfs.github.com", b"hawser.github.com"),
        "is a Git LFS pointer",
    ),
    "annex": (b"/annex/objects/SHA256E-s31--" + b"ab" * 32 + b".txt\n", "is a git-annex pointer"),
    "annex link": (b"../.git/annex/objects/x1/2y/SHA256E-s31--ab/SHA256E-s31--ab", "git annex get"),
    "DVC": (
        b"outs:\n- md5: " + b"ab" * 16 + b"\n  size: 9\n  hash: md5\n  path: a.jsonl\n",
        "run dvc pull",
    ),
    "DVC import": (
        b"md5: "
        + b"ab" * 16
        + b"\nfrozen: true\ndeps:\n- path: a\nouts:\n- md5: "
        + b"cd" * 16
        + b".dir\n",
        "is a DVC pointer file",
    ),
    "Xet": (b"# xet version 0\nfilesize = 3\nhash = 'ab'\n", "is a Xet pointer"),
    "hub link": (b"../../blobs/" + b"ab" * 20, "is a link of the Hugging Face cache"),
    "page": (WEB_PAGE, r"is a web page \(HTML\)"),
    "page in capitals": (b"\n <HTML lang=en><body>404</body></HTML>", r"is a web page \(HTML\)"),
    "XHTML": (b'<?xml version="1.0"?>\n<!-- x -->' + WEB_PAGE, r"is a web page \(HTML\)"),
    "long page": (WEB_PAGE + b"<p>x</p>" * 1000, r"is a web page \(HTML\)"),
    "S3": (
        (
            b'<?xml version="1.0"'
            b' encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>x</Message></Error>'
        ),
        r"a storage server's error message \(AccessDenied\)",
    ),
    "hub answer": (b"Entry not found", r"is a server's answer \(Entry not found\)"),
    "raw answer": (b"404: Not Found", "is a server's answer"),
    "gated": (
        b"Access to dataset a/b is restricted. You must be authenticated.\n",
        "is a server's answer",
    ),
    "JSON answer": (b'{"error":"Repository not found"}', "is a server's answer"),
    "API answer": (
        b'{\n  "message": "Not Found",\n  "documentation_url": "https://x",\n  "status": "404"\n}',
        "is a server's answer",
    ),
    "empty": (b"", "is empty"),
    "zeros": (b"\0" * 9000, "zero bytes only"),
}
NAMES = (
    "a.parquet",
    "a.arrow",
    "file.arrow",
    "a.jsonl",
    "a.txt",
    "a.jsonl.gz",
    "a.txt.gz",
    "a.jsonl.zst",
    "a.txt.zst",
)


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text, "id": 1}) + "\n" for text in texts).encode()


def written(write) -> bytes:
    sink = pa.BufferOutputStream()
    write(sink)
    return sink.getvalue().to_pybytes()


def arrow_bytes(table: pa.Table, new=pa.ipc.new_stream) -> bytes:
    def write(sink) -> None:
        with new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=16)

    return written(write)


def parquet_bytes(table: pa.Table, **options) -> bytes:
    return written(lambda sink: pq.write_table(table, sink, **options))


def compress(content: bytes, name: str) -> bytes:
    """Compress `content` by the suffix of `name`."""
    if name.endswith(".gz"):
        return gzip.compress(content, mtime=0)
    return zstd(content) if name.endswith(".zst") else content


def file_of(name: str, texts: list[str]) -> bytes:
    """Return the bytes of a file with `texts`, in the format of `name`, one of NAMES."""
    table = pa.table({"text": texts, "id": list(range(len(texts)))})
    if name.endswith(".parquet"):
        return parquet_bytes(table, row_group_size=16)
    if name.endswith(".arrow"):
        return arrow_bytes(table, pa.ipc.new_file if name.startswith("file") else pa.ipc.new_stream)
    return compress("\n".join(texts).encode() if ".txt" in name else lines(*texts), name)
