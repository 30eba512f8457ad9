import gzip
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.errors import PipelineError
from model.readers import read_records


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text, "id": 1}) + "\n" for text in texts).encode()


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_all_members_and_frames_are_read(tmp_path, name):
    compress = gzip.compress if name.endswith("gz") else zstd
    texts = [f"{number} " + "long " * 100_000 for number in range(3)]
    content = b"".join(
        compress(part) for part in (lines(texts[0]), b"", lines(texts[1])[:1000], lines(texts[1])[1000:], lines(texts[2]))
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


PEAK = """
import sys
from pathlib import Path
from model.documents import Document, DocumentWriter
from model.readers import read_records

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
    """200 MB of text in one row group, in pages of a few MB: what is read of a file at once is a page, at least."""
    long = os.urandom(200_000_000 // documents // 2).hex()
    texts = pa.array([f"{number} {long}" for number in range(documents)])
    pq.write_table(
        pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=10**9, use_dictionary=False, write_batch_size=4
    )
    del texts
    done = subprocess.run([sys.executable, "-c", PEAK, tmp_path / "a.parquet", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150_000, f"{done.stdout} kB"
