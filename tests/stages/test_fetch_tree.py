"""Passages from a tree of local files, and the formats that such files have."""

import gzip
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fetch_project import fails, pinned, project  # noqa: F401
from raw_files import lines, zstd
from source_tree import shell_sha256, source_of

from common.sections import read_json
from model.data.documents import PassagesIndex, document_shards, read_split


@pytest.fixture
def tree(tmp_path) -> Path:
    root = tmp_path / "tree"
    for folder in ("Web/2024/a", "Books", ".git", "Web/.cache"):
        (root / folder).mkdir(parents=True)
    (root / "Web/2024/a/x.jsonl").write_bytes(lines("one", "two"))
    (root / "Web/2024/y z.jsonl.gz").write_bytes(gzip.compress(lines("three")))
    (root / "Web/é.jsonl.zst").write_bytes(zstd(lines("four")))
    (root / "Books/b.txt").write_text("five\nsix")
    pq.write_table(pa.table({"text": ["seven"], "id": [1]}), root / "Books/a.parquet")
    (root / "notes.en.txt").write_text("eight")
    for hidden in (".git/config", "Web/.cache/x.bin", ".DS_Store"):
        (root / hidden).write_text("hidden")
    return root


EXPECTED = [
    ("seven", "Books"), ("five\nsix", "Books"), ("one", "Web"), ("two", "Web"), ("three", "Web"),
    ("four", "Web"), ("eight", "notes"),
]  # fmt: skip


@pytest.mark.parametrize("characters", [1, 1000])
def test_a_tree_is_read_in_order_with_its_folders_as_sources(project, tree, characters):
    output = project("passages", source=source_of(tree), count=7, characters_per_shard=characters)
    assert [tuple(document) for document in read_split(output, "passages")] == EXPECTED
    assert len(document_shards(output, "passages")) == (7 if characters == 1 else 1)
    index = read_json(output / "index.json", PassagesIndex)
    assert index.documents == {"Books": 2, "notes": 1, "Web": 4}
    assert index.characters == {"Books": 13, "notes": 5, "Web": 15}


def test_many_small_files_make_few_shards(project, tmp_path):
    (tmp_path / "small").mkdir()
    for number in range(100):
        (tmp_path / f"small/{number:03d}.txt").write_text(f"text {number:03d}")
    output = project(
        "passages", source=source_of(tmp_path / "small"), count=100, characters_per_shard=400
    )
    assert len(document_shards(output, "passages")) == 2


def test_a_wrong_sha256_is_told_with_the_right_one(project, tree):
    actual = shell_sha256(tree)
    wrong = source_of(tree, "1" * 64)
    message = f"tree: SHA-256 of the listing of its 6 files is {actual}, pinned {'1' * 64}"
    fails(project, "passages", message, source=wrong, count=7, characters_per_shard=100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: (tree / "Web/more.txt").write_text("more"), "listing of its 7 files is"),
        (lambda tree: (tree / "Books/b.txt").unlink(), "listing of its 5 files is"),
        (lambda tree: (tree / "Books/b.txt").write_text("fiver"), "listing of its 6 files is"),
        (
            lambda tree: (tree / "Books/b.txt").rename(tree / "Books/c.txt"),
            "listing of its 6 files is",
        ),
        (
            lambda tree: (tree / "Books/cover.jpg").write_text("x"),
            "tree/Books/cover.jpg: no file that can be read; use .parquet",
        ),
        (
            lambda tree: (tree / "Books/a.parquet.gz").write_text("x"),
            "tree/Books/a.parquet.gz: no file that can be read",
        ),
        (lambda tree: (tree / "README").write_text("x"), "tree/README: no file that can be read"),
        (lambda tree: os.mkfifo(tree / "pipe.txt"), "tree/pipe.txt: no file that can be read"),
        (
            lambda tree: (tree / "Web/link.txt").symlink_to(tree / "Books/b.txt"),
            "tree/Web/link.txt: is a link",
        ),
        (
            lambda tree: (tree / "Web/linked").symlink_to(tree / "Books"),
            "tree/Web/linked: is a link",
        ),
        (
            lambda tree: (tree / "a\\b.txt").write_text("x"),
            r"tree/a.*b.txt': its name has a backslash",
        ),
        (
            lambda tree: (tree / "a\nb.txt").write_text("x"),
            r"its name has a backslash, a line break",
        ),
        (
            lambda tree: Path(os.fsdecode(bytes(tree) + b"/\xff.txt")).write_text("x"),
            r"is no UTF-8; rename it",
        ),
    ],
)
def test_another_tree_is_one_line(project, tree, change, message):
    source = source_of(tree)
    change(tree)
    fails(project, "passages", message, source=source, count=7, characters_per_shard=100)


def test_no_tree_is_one_line(project, tmp_path):
    source = {"kind": "tree", "path": str(tmp_path / "none"), "sha256": "1" * 64}
    fails(
        project,
        "passages",
        "none: no such folder; correct fetch.passages.source.path",
        source=source,
        count=7,
    )
    (tmp_path / "none/.hidden").mkdir(parents=True)
    fails(project, "passages", "none: has no files", source=source, count=7)


def test_a_file_that_changes_after_it_was_listed_is_refused(project, tree, monkeypatch):
    """The tree is listed at the start and read for hours."""
    from model.sources import passage_files

    def open_later(file, folder):
        file.path.write_bytes(file.path.read_bytes() + b" ")
        return unchanged(file, folder)

    unchanged = passage_files._open_tree
    monkeypatch.setattr(passage_files, "_open_tree", open_later)
    fails(
        project,
        "passages",
        "Books/a.parquet: SHA-256 is .* truncated or altered",
        source=source_of(tree),
        count=7,
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"na\xefve", "a.txt: its text is not UTF-8: byte 0xef at byte 2; convert"),
        (
            "a.jsonl",
            b'{"text": "na\xefve"}\n',
            "a.jsonl: record 0 is not UTF-8: byte 0xef at byte 12; convert",
        ),
        (
            "a.txt.gz",
            gzip.compress(b"na\xefve", mtime=0),
            "a.txt.gz: its text is not UTF-8: byte 0xef at byte 2",
        ),
        ("a.jsonl", b'{"text": "\\ud800"}\n', "a.jsonl: record 0 has half a surrogate pair"),
        ("a.jsonl", b"\n \n", "a.jsonl: has no records, only blank lines"),
        (
            "a.jsonl",
            b'{"text": ' + b"[" * 100_000,
            r"a.jsonl: record 0 is not JSON \(line 1: nested too deep\)",
        ),
        ("a.parquet", b"PAR1rubbish", "a.parquet: cannot be read to its end"),
    ],
)
def test_what_is_no_text_is_one_line(project, tmp_path, name, content, message):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / name).write_bytes(content)
    fails(project, "passages", message, source=source_of(tmp_path / "tree"), count=1)
    fails(project, "passages", message, source=pinned(tmp_path / "tree" / name), count=1)


def test_parquet_whose_text_is_no_utf8_is_one_line(project, tmp_path):
    column = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"na\xefv")]
    )
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    message = "a.parquet: record 0 is not UTF-8: byte 0xef at byte 2"
    fails(project, "passages", message, source=pinned(tmp_path / "a.parquet"), count=1)
