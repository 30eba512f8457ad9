"""Passages from a tree of local files, and the formats that such files have."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_fetch import fails, pinned, project  # noqa: F401

from model.documents import Document, DocumentWriter, PassagesIndex, document_shards, read_split
from model.errors import PipelineError
from model.readers import read_records
from model.section import read_json

# As README and model/params/fetch.py have it.
LISTING = "find . -type f ! -path '*/.*' -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


def lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text, "id": 1}) + "\n" for text in texts).encode()


@pytest.fixture
def tree(tmp_path) -> Path:
    root = tmp_path / "tree"
    for folder in ("web/2024/a", "Books", ".git", "web/.cache"):
        (root / folder).mkdir(parents=True)
    (root / "web/2024/a/x.jsonl").write_bytes(lines("one", "two"))
    (root / "web/2024/y z.jsonl.gz").write_bytes(gzip.compress(lines("three")))
    (root / "web/é.jsonl.zst").write_bytes(zstd(lines("four")))
    (root / "Books/b.txt").write_text("five\nsix")
    pq.write_table(pa.table({"text": ["seven"], "id": [1]}), root / "Books/a.parquet")
    (root / "notes.en.txt").write_text("eight")
    for hidden in (".git/config", "web/.cache/x.bin", ".DS_Store"):
        (root / hidden).write_text("hidden")
    return root


EXPECTED = [
    ("seven", "Books"), ("five\nsix", "Books"), ("eight", "notes"), ("one", "web"), ("two", "web"), ("three", "web"),
    ("four", "web"),
]  # fmt: skip


def shell_sha256(tree: Path) -> str:
    command = ["bash", "-c", f"set -o pipefail; {LISTING}"]
    return subprocess.check_output(command, cwd=tree, text=True).split()[0]


def source_of(tree: Path, sha256: str | None = None) -> dict:
    return {"kind": "tree", "path": str(tree), "sha256": sha256 or shell_sha256(tree)}


@pytest.mark.parametrize("characters", [1, 1000])
def test_a_tree_is_read_in_order_with_its_folders_as_sources(project, tree, characters):  # noqa: F811
    output = project("passages", source=source_of(tree), count=7, characters_per_shard=characters)
    assert [tuple(document) for document in read_split(output, "passages")] == EXPECTED
    assert len(document_shards(output, "passages")) == (7 if characters == 1 else 1)
    index = read_json(output / "index.json", PassagesIndex)
    assert index.documents == {"Books": 2, "notes": 1, "web": 4}
    assert index.characters == {"Books": 13, "notes": 5, "web": 15}


def test_many_small_files_make_few_shards(project, tmp_path):  # noqa: F811
    (tmp_path / "small").mkdir()
    for number in range(100):
        (tmp_path / f"small/{number:03d}.txt").write_text(f"text {number:03d}")
    output = project("passages", source=source_of(tmp_path / "small"), count=100, characters_per_shard=400)
    assert len(document_shards(output, "passages")) == 2


def test_a_wrong_sha256_is_told_with_the_right_one(project, tree):  # noqa: F811
    actual = shell_sha256(tree)
    wrong = source_of(tree, "1" * 64)
    message = f"tree: SHA-256 of the listing of its 6 files is {actual}, pinned {'1' * 64}"
    fails(project, "passages", message, source=wrong, count=7, characters_per_shard=100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: (tree / "web/more.txt").write_text("more"), "listing of its 7 files is"),
        (lambda tree: (tree / "Books/b.txt").unlink(), "listing of its 5 files is"),
        (lambda tree: (tree / "Books/b.txt").write_text("fiver"), "listing of its 6 files is"),
        (lambda tree: (tree / "Books/b.txt").rename(tree / "Books/c.txt"), "listing of its 6 files is"),
        (lambda tree: (tree / "Books/cover.jpg").write_text("x"), "tree/Books/cover.jpg: no file that can be read; use .parquet"),
        (lambda tree: (tree / "Books/a.parquet.gz").write_text("x"), "tree/Books/a.parquet.gz: no file that can be read"),
        (lambda tree: (tree / "README").write_text("x"), "tree/README: no file that can be read"),
        (lambda tree: os.mkfifo(tree / "pipe.txt"), "tree/pipe.txt: no file that can be read"),
        (lambda tree: (tree / "web/link.txt").symlink_to(tree / "Books/b.txt"), "tree/web/link.txt: is a link"),
        (lambda tree: (tree / "web/linked").symlink_to(tree / "Books"), "tree/web/linked: is a link"),
        (lambda tree: (tree / "a\\b.txt").write_text("x"), r"tree/a.*b.txt': its name has a backslash"),
        (lambda tree: (tree / "a\nb.txt").write_text("x"), r"its name has a backslash, a line break"),
        (lambda tree: Path(os.fsdecode(bytes(tree) + b"/\xff.txt")).write_text("x"), r"is no UTF-8; rename it"),
    ],
)
def test_another_tree_is_one_line(project, tree, change, message):  # noqa: F811
    source = source_of(tree)
    change(tree)
    fails(project, "passages", message, source=source, count=7, characters_per_shard=100)


def test_no_tree_is_one_line(project, tmp_path):  # noqa: F811
    source = {"kind": "tree", "path": str(tmp_path / "none"), "sha256": "1" * 64}
    fails(project, "passages", "none: no such folder; correct fetch.passages.source.path", source=source, count=7)
    (tmp_path / "none/.hidden").mkdir(parents=True)
    fails(project, "passages", "none: has no files", source=source, count=7)


def test_a_file_that_changes_after_it_was_listed_is_refused(project, tree, monkeypatch):  # noqa: F811
    """The tree is listed at the start and read for hours."""
    from model import passage_files

    def open_later(file, folder):
        file.path.write_bytes(file.path.read_bytes() + b" ")
        return unchanged(file, folder)

    unchanged = passage_files._open_tree
    monkeypatch.setattr(passage_files, "_open_tree", open_later)
    fails(project, "passages", "Books/a.parquet: SHA-256 is .* truncated or altered", source=source_of(tree), count=7)


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"na\xefve", "a.txt: cannot be read to its end .*utf-8"),
        ("a.jsonl", b'{"text": "na\xefve"}\n', "a.jsonl: cannot be read to its end .*utf-8"),
        ("a.txt.gz", gzip.compress(b"na\xefve"), "a.txt.gz: cannot be read to its end .*utf-8"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl: record 0 has half a surrogate pair"),
        ("a.jsonl", b'{"text": "a"}\n\n', "a.jsonl: cannot be read to its end"),
        ("a.jsonl", b'{"text": ' + b"[" * 100_000, "a.jsonl: cannot be read to its end"),
        ("a.parquet", b"PAR1rubbish", "a.parquet: cannot be read to its end"),
    ],
)
def test_what_is_no_text_is_one_line(project, tmp_path, name, content, message):  # noqa: F811
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / name).write_bytes(content)
    fails(project, "passages", message, source=source_of(tmp_path / "tree"), count=1)
    fails(project, "passages", message, source=pinned(tmp_path / "tree" / name), count=1)


def test_parquet_whose_text_is_no_utf8_is_one_line(project, tmp_path):  # noqa: F811
    column = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"na\xefv")])
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    fails(project, "passages", "a.parquet: cannot be read to its end .*utf-8", source=pinned(tmp_path / "a.parquet"), count=1)


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


def test_shards_are_cut_by_characters(tmp_path):
    documents = [Document("x" * length, source) for length, source in ((60, "a"), (30, "b"), (10, "a"), (250, "b"), (5, "b"))]
    with DocumentWriter(tmp_path, "train", characters_per_shard=100) as writer:
        for document in documents:
            writer.append(document)
    shards = [list(read_split_unchecked(shard)) for shard in document_shards(tmp_path, "train")]
    assert [[len(document.text) for document in shard] for shard in shards] == [[60, 30, 10], [250], [5]]
    assert (writer.characters, writer.documents) == ({"a": 70, "b": 285}, {"a": 2, "b": 3})


def read_split_unchecked(shard: Path) -> list[Document]:
    return [Document(**row) for row in pq.read_table(shard).to_pylist()]


def test_a_row_group_is_bounded_by_documents_and_by_characters(tmp_path):
    with DocumentWriter(tmp_path, "train", characters_per_shard=10**12) as writer:
        for _ in range(2500):
            writer.append(Document("short", "a"))
        for _ in range(10):
            writer.append(Document("x" * 1_500_000, "a"))
    with pq.ParquetFile(tmp_path / "train_00000.parquet") as file:
        rows = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert rows == [1024, 1024, 452 + 3, 3, 3, 1]


def test_a_document_too_long_for_a_table_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("model.documents.LONGEST_DOCUMENT", 10)
    with DocumentWriter(tmp_path, "train", 100) as writer:
        writer.append(Document("x" * 10, "a"))
        with pytest.raises(PipelineError, match="a document of a is longer than 10 characters; split its file"):
            writer.append(Document("x" * 11, "a"))


def test_a_writer_that_is_left_by_an_error_writes_no_more(tmp_path):
    with pytest.raises(RuntimeError), DocumentWriter(tmp_path, "train", 100) as writer:
        writer.append(Document("x", "a"))
        raise RuntimeError
    assert not list(tmp_path.iterdir())
