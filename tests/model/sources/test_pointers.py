"""What lies in place of data is named as what it is, wherever a file is read."""

import gzip
import os
import re
from pathlib import Path

import pytest
from fetch_project import fails, pinned, project  # noqa: F401
from hub_folder import hub_source
from raw_files import LFS, NAMES, STAND_INS, WEB_PAGE, compress, file_of
from source_tree import source_of

from common.errors import PipelineError
from model.sources import pointers
from model.sources.pointers import fault_of, require_data
from model.sources.record_readers import read_records

CASES = [pytest.param(*case, id=name) for name, case in STAND_INS.items()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("content", "message"), CASES)
def test_a_stand_in_is_named_in_every_format(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        PipelineError, match=rf"^{re.escape(str(tmp_path / name))}: {message}|: .*{message}"
    ) as caught:
        list(read_records(tmp_path / name, ["text"]))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(("gz", "zst"))])
@pytest.mark.parametrize(("content", "message"), CASES)
def test_a_stand_in_that_was_compressed_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(compress(content, name))
    with pytest.raises(PipelineError, match=f"{name}: its content, decompressed, .*{message}"):
        list(read_records(tmp_path / name, ["text"]))


@pytest.mark.parametrize(("content", "message"), CASES)
def test_fetch_names_it_before_it_compares_a_sha256(project, tmp_path, content, message):
    (tmp_path / "tree").mkdir()
    path = tmp_path / "tree/a.jsonl"
    path.write_bytes(content)
    wrong = {"kind": "files", "files": [{"path": str(path), "sha256": "1" * 64}]}
    for source in (pinned(path), wrong, source_of(path.parent), source_of(path.parent, "1" * 64)):
        fails(project, "passages", f"a.jsonl: .*{message}", source=source, count=1)
    for name in ("hellaswag", "ranks", "gsm8k"):
        fails(project, name, f"a.jsonl: .*{message}", source=wrong, count=300)


@pytest.mark.parametrize(
    "name", ["a.parquet", "a.arrow", "a.jsonl", "a.json", "a.txt", "a.csv", "a.jsonl.gz"]
)
def test_a_hub_folder_that_git_left_with_pointers_is_named(project, tmp_path, name):
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / f"train-{name}").write_bytes(LFS)
    source = hub_source(folder, subset=None)
    fails(
        project,
        "passages",
        rf"hub/train-{re.escape(name)}: is a Git LFS pointer",
        source=source,
        count=1,
    )
    source.pop("sha256")
    fails(
        project,
        "hellaswag",
        rf"hub/train-{re.escape(name)}: is a Git LFS pointer",
        source=source,
        count=2,
    )


@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1 is the first line of a pointer. "
        + b"It is a text. " * 100,
        b"Not Found: a novel in three parts",
        b"outs: the plural of out. md5: a digest.\n",
        b"A page begins with <!DOCTYPE html> and goes on.",
        b"<htmlish> text",
        b'<?xml version="1.0"?><book>A text of its own</book>',
        b'{"error": "is a word"} and a text goes on',
        b'{"message": "hello", "text": "a record"}',
        b"\0\1",
        b"/annex/objects/ is where git-annex has its keys",
        "Zugriff verweigert – é".encode(),
        b"<!---->" * 500 + b"<book>",  # each comment that could end elsewhere would double the time
    ],
)
def test_texts_about_such_things_are_data(content):
    assert fault_of(content) is None


def test_whole_files_are_data():
    assert [
        name for name in NAMES if fault_of(file_of(name, ["a text"])[: pointers.HEAD_BYTES])
    ] == []


def test_what_cannot_be_opened_is_one_line(tmp_path):
    with pytest.raises(
        PipelineError,
        match=r"none.txt: cannot be read \(No such file or directory\); check the disk",
    ):
        require_data(tmp_path / "none.txt")
    with pytest.raises(PipelineError, match=r"^its name: cannot be read \(Is a directory\)"):
        require_data(tmp_path, "its name")


@pytest.mark.skipif(
    not os.path.exists("/proc/self/mem"), reason="needs a file that opens and cannot be read"
)
def test_a_disk_that_fails_is_one_line():
    with pytest.raises(PipelineError, match="mem: cannot be read"):
        require_data(Path("/proc/self/mem"))


def test_without_the_guard_a_pointer_becomes_a_document(project, tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_bytes(LFS)
    fails(project, "passages", "is a Git LFS pointer", source=pinned(path), count=1)
    for module in ("pointers", "text_streams"):
        monkeypatch.setattr(f"model.{module}.fault_of", lambda head: None)
    project("passages", source=pinned(path), count=1)


def test_a_page_that_is_meant_goes_into_a_record(project, tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(
        gzip.compress(b'{"text": "' + WEB_PAGE.strip().replace(b"\n", b"\\n") + b'"}\n')
    )
    project("passages", source=pinned(path), count=1)
