"""Passages from the hub, on a local directory in the hub's layout: no machine of the tests reaches
the hub itself.
"""

import gzip
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fetch_project import fails, project  # noqa: F401
from hub_folder import DOCUMENTS_PER_FILE, hub_source, listing_of, make_hub_folder, texts_of
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from json_line_cases import BAD_LINES, LINES_THAT_ARE_READ
from raw_files import arrow_bytes, compress, parquet_bytes
from repository import REPOSITORY

from common.errors import PipelineError
from common.files import verified_directory
from common.sections import read_json
from model.data.documents import PassagesIndex, read_split
from model.params.fetch import HubFilesSource
from model.runtime.resumable import SCRATCH
from model.sources.benchmark_passages import text_records
from model.sources.hub import SECONDS_BEFORE_RETRIES, HubDataset, with_retries
from model.sources.record_readers import read_records

FILES = 4
COUNT = FILES * DOCUMENTS_PER_FILE


@pytest.fixture
def hub(tmp_path) -> Path:
    make_hub_folder(tmp_path / "hub", FILES)
    return tmp_path / "hub"


def fetch(project, folder: Path, count: int = COUNT, characters: int = 3000, **source) -> Path:
    return project(
        "passages",
        source=hub_source(folder, **source),
        count=count,
        characters_per_shard=characters,
    )


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_subset_comes_whole_in_order_and_counted(project, hub, capsys):
    output = verified_directory(fetch(project, hub))
    texts = [text for file in range(FILES) for text in texts_of(file)]
    assert [tuple(document) for document in read_split(output, "passages")] == [
        (text, "hub") for text in texts
    ]
    index = read_json(output / "index.json", PassagesIndex)
    assert index == PassagesIndex(
        characters={"hub": sum(map(len, texts))}, documents={"hub": COUNT}
    )
    digest = listing_of(hub, sorted(hub.glob("sample/10BT/*")))
    assert (
        f"{COUNT} passages, {sum(map(len, texts))} characters; fetch.passages.source.sha256 is"
        f" {digest}" in capsys.readouterr().out
    )
    fetch(project, hub, sha256=digest)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"split": "test"}, r"hub dataset .*: cannot be read \(no split test; it has train\)"),
        ({"subset": "sample-9BT"}, "hub dataset .*: cannot be read .*sample-9BT"),
        ({"dataset": "no/such"}, "hub dataset no/such at 000000000000: cannot be read"),
        (
            {"sha256": "1" * 64},
            "SHA-256 of the listing of .*hub's files is [0-9a-f]{64}, pinned 1{64}",
        ),
    ],
)
def test_what_cannot_pass_is_one_line_at_once(project, hub, monkeypatch, source, message):
    monkeypatch.setattr(time, "sleep", pytest.fail)
    fails(
        project,
        "passages",
        message,
        source=hub_source(hub, **source),
        count=COUNT,
        characters_per_shard=3000,
    )


def test_another_count_is_one_line(project, hub):
    message = f"{COUNT} records found, fetch.passages.count is {COUNT + 1}"
    fails(
        project,
        "passages",
        message,
        source=hub_source(hub),
        count=COUNT + 1,
        characters_per_shard=3000,
    )


def test_a_truncated_parquet_file_is_one_line(project, hub):
    path = hub / "sample/10BT/002_00000.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    fails(
        project,
        "passages",
        "002_00000.parquet: cannot be read to its end",
        source=hub_source(hub),
        count=COUNT,
    )


def test_a_data_file_outside_the_repository_is_refused(project, hub):
    (hub / "README.md").write_text(
        (hub / "README.md").read_text().replace("path: sample/10BT/*", "path: ../stray.parquet")
    )
    (hub.parent / "stray.parquet").write_bytes((hub / "sample/10BT/000_00000.parquet").read_bytes())
    fails(
        project,
        "passages",
        "hub dataset .*stray.parquet is not in the repository",
        source=hub_source(hub),
        count=COUNT,
    )


def test_other_formats_are_read_as_datasets_reads_them(project, tmp_path):
    folder = tmp_path / "lines"
    folder.mkdir()
    lines = [json.dumps({"text": f"Line {number}."}) for number in range(5)]
    (folder / "train-0.jsonl").write_text("\n".join(lines[:2]) + "\n")
    with open(folder / "train-1.jsonl.gz", "wb") as file:
        file.write(gzip.compress("\n".join(lines[2:]).encode()))
    output = fetch(project, folder, count=5, subset=None)
    assert [document.text for document in read_split(output, "passages")] == [
        f"Line {number}." for number in range(5)
    ]
    (folder / "train-1.jsonl.gz").write_bytes((folder / "train-1.jsonl.gz").read_bytes()[:-9])
    with pytest.raises(PipelineError, match=r"train-1.jsonl.gz: cannot be read to its end"):
        fetch(project, folder, count=5, subset=None)


def hub_texts(folder: Path, **files: bytes) -> list[str] | str:
    """Return the texts that the hub's reader takes from files named train-NAME, or what it says."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"train-{name.replace('_', '.')}").write_bytes(content)
    dataset = HubDataset(HubFilesSource(**hub_source(folder, subset=None)))
    copies = folder.parent / "copies"
    copies.mkdir(exist_ok=True)
    try:
        return [document.text for document in text_records("hub", dataset.records(copies), "x")]
    except PipelineError as error:
        return str(error)


def local_texts(path: Path, content: bytes) -> list[str] | str:
    path.write_bytes(content)
    try:
        return [document.text for document in text_records("hub", read_records(path), "x")]
    except PipelineError as error:
        return str(error)


@pytest.mark.parametrize("kind", ["jsonl", "json.gz"])
@pytest.mark.parametrize(
    ("lines", "_"),
    [*BAD_LINES.values(), *LINES_THAT_ARE_READ.values()],
    ids=[*BAD_LINES, *LINES_THAT_ARE_READ],
)
def test_the_hubs_reader_and_the_local_one_say_the_same_of_the_same_lines(tmp_path, kind, lines, _):
    if (
        not lines.strip()
        .removeprefix(b"\xef\xbb\xbf" * 2)
        .removeprefix(b"\xef\xbb\xbf")
        .startswith(b"{")
    ):
        lines = b'{"text": "first"}\n' + lines
    content = compress(lines, kind)
    found = hub_texts(tmp_path / "hub", **{f"a_{kind.replace('.', '_')}": content})
    here = local_texts(
        tmp_path / f"a.{kind.replace('json', 'jsonl') if 'jsonl' not in kind else kind}", content
    )
    if isinstance(here, str):
        assert isinstance(found, str), "the hub's reader takes it"
        assert "\n" not in found
        assert found.partition(": ")[2] == here.partition(": ")[2]
        assert f"/hub/train-a.{kind}: " in found or found.startswith("hub: record")
    else:
        assert found == here


def test_shards_whose_other_columns_differ_are_read(tmp_path):
    first = b'{"text": "one", "id": "1"}\n'
    others = {
        "new column": b'{"text": "two", "id": "2", "doc": {"x": 1}}\n',
        "missing column": b'{"text": "two"}\n',
        "other order and type": b'{"id": 2, "text": "two"}\n',
        "null": b'{"id": null, "text": "two"}\n',
    }
    for name, second in others.items():
        assert hub_texts(tmp_path / name, **{"0_jsonl": first, "1_jsonl": second}) == [
            "one",
            "two",
        ], name
    tables = (
        pa.table({"text": ["one"], "id": [1]}),
        pa.table({"id": ["2"], "doc": [[{"x": 1}]], "text": ["two"]}),
    )
    found = hub_texts(
        tmp_path / "parquet",
        **{f"{n}_parquet": parquet_bytes(table) for n, table in enumerate(tables)},
    )
    assert found == ["one", "two"]
    found = hub_texts(
        tmp_path / "arrow", **{f"{n}_arrow": arrow_bytes(table) for n, table in enumerate(tables)}
    )
    assert found == ["one", "two"]
    found = hub_texts(
        tmp_path / "csv", **{"0_csv": b"text,id\none,1\n", "1_csv": b"doc,text,id\nx,two,b\n"}
    )
    assert found == ["one", "two"]


@pytest.mark.parametrize("kind", ["parquet", "arrow", "jsonl"])
def test_a_shard_without_text_is_named(project, tmp_path, kind):
    def content(table: pa.Table) -> bytes:
        if kind == "jsonl":
            return "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()
        return parquet_bytes(table) if kind == "parquet" else arrow_bytes(table)

    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / f"train-0.{kind}").write_bytes(content(pa.table({"text": ["one"], "id": [1]})))
    (folder / f"train-1.{kind}").write_bytes(content(pa.table({"body": ["two"], "id": [1]})))
    message = (
        rf"hub/train-1.{kind}: (has no column `text`; its columns are|record 0 has no string .*its"
        r" fields are) body, id"
    )
    fails(project, "passages", message, source=hub_source(folder, subset=None), count=2)


def test_columns_that_a_readme_says_otherwise_are_named(tmp_path):
    (tmp_path / "hub").mkdir()
    header = "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n---\n"
    (tmp_path / "hub/README.md").write_text(header)
    assert hub_texts(tmp_path / "hub", a_jsonl=b'{"text": "one", "id": 1}\n') == ["one"]
    (tmp_path / "hub/train-a.jsonl").unlink()
    found = hub_texts(tmp_path / "hub", a_csv=b"text,id\none,1\n")
    assert re.match(
        r".*/hub/train-a.csv: cannot be read to its end \(.*(id: int64|column).*\)$", str(found)
    ), found


def test_other_json_of_the_hub_is_read_as_datasets_reads_it(tmp_path):
    found = hub_texts(tmp_path / "list", a_json=b'[{"text": "one"},\n {"text": "two"}]')
    assert found == ["one", "two"]
    found = hub_texts(tmp_path / "text", a_txt="\ufeffone\ntwo\n".encode())
    assert found == ["one", "two"]
    found = hub_texts(tmp_path / "wide", a_txt="one\n".encode("utf-16"))
    assert re.search("hub/train-a.txt|wide/train-a.txt", str(found))
    assert "is UTF-16 text; convert it" in found


def test_without_a_file_s_own_columns_a_second_csv_is_refused_or_read(tmp_path):
    """datasets may keep the first file's columns for all: they are set back for each."""
    (tmp_path / "hub").mkdir()
    for number, content in enumerate((b"text\none\n", b"text\ntwo\n")):
        (tmp_path / f"hub/train-{number}.csv").write_bytes(content)
    dataset = HubDataset(HubFilesSource(**hub_source(tmp_path / "hub", subset=None)))
    import datasets

    dataset._builder.info.features = datasets.Features({"other": datasets.Value("int64")})
    assert [record["text"] for record in dataset.records(tmp_path)] == ["one", "two"]
    dataset._features = dataset._builder.info.features = datasets.Features(
        {"other": datasets.Value("int64")}
    )
    with pytest.raises(
        PipelineError, match=r"hub/train-0.csv: cannot be read to its end \(.*other"
    ):
        list(dataset.records(tmp_path))


def test_a_file_that_comes_at_the_second_attempt_is_waited_for(hub, tmp_path, monkeypatch, capsys):
    dataset = HubDataset(HubFilesSource(**hub_source(hub)))
    file = dataset.files[1]
    path, hidden = Path(file.location), hub / "hidden"
    path.rename(hidden)
    waited = []

    def come_back(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2 and hidden.exists():
            hidden.rename(path)

    monkeypatch.setattr(time, "sleep", come_back)
    dataset.download(file, tmp_path / "copy")
    assert waited == [1, 2]
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert re.fullmatch(
        r"hub file \S+/sample/10BT/001_00000.parquet: .*No such file.*; again in 1 s\nhub file .*;"
        r" again in 2 s\n",
        capsys.readouterr().err,
    )
    path.unlink()
    waited.clear()
    with pytest.raises(
        PipelineError,
        match=r"hub file \S+001_00000.parquet at 000000000000: cannot be read \(.*No such file",
    ):
        dataset.download(file, tmp_path / "copy")
    assert tuple(waited) == SECONDS_BEFORE_RETRIES


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ConnectionError("Couldn't reach 'a/b' on the Hub"), True),
        (
            FileNotFoundError(
                "Couldn't find 'a/b' on the Hugging Face Hub either: LocalEntryNotFoundError: An"
                " error happened"
            ),
            True,
        ),
        (
            LocalEntryNotFoundError("An error happened while trying to locate the file on the Hub"),
            True,
        ),
        (EntryNotFoundError("404 Client Error"), False),
        (TimeoutError("timed out"), True),
        (
            FileNotFoundError(
                "Couldn't find 'a/b' on the Hugging Face Hub either: EntryNotFoundError"
            ),
            False,
        ),
        (ValueError("BuilderConfig 'x' not found"), False),
    ],
)
@pytest.mark.parametrize("offline", [False, True])
def test_errors_that_cannot_pass_are_told_from_those_that_can(monkeypatch, error, passes, offline):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)

    def fail():
        raise error

    with pytest.raises(PipelineError, match="hub dataset a/b at 000000000000: cannot be read"):
        with_retries(fail, "dataset a/b", "0" * 40)
    waits = passes and not (offline and not isinstance(error, TimeoutError))
    assert tuple(waited) == (SECONDS_BEFORE_RETRIES if waits else ())


def test_a_file_that_arrives_short_is_tried_again(hub, tmp_path, monkeypatch):
    dataset = HubDataset(HubFilesSource(**hub_source(hub)))
    path = Path(dataset.files[0].location)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    monkeypatch.setattr(time, "sleep", lambda _: path.write_bytes(whole))
    dataset.download(dataset.files[0], tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == whole


def test_a_file_that_is_not_what_the_hub_states_is_refused_at_once(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", pytest.fail)
    dataset = HubDataset(HubFilesSource(**hub_source(hub)))
    stated = dataset.files[0]._replace(sha256="1" * 64)
    with pytest.raises(PipelineError, match=r"its SHA-256 is [0-9a-f]{64}, the hub states 1{64}"):
        dataset.download(stated, tmp_path / "copy")


def test_resuming_anywhere_gives_the_same_bytes(project, hub, tmp_path, monkeypatch):
    whole = contents(fetch(project, hub))
    for finished in range(FILES):
        monkeypatch.setenv(SCRATCH, str(tmp_path / f"data/raw/.passages.scratch/{finished}"))
        broken = hub / f"sample/10BT/{finished:03d}_00000.parquet"
        original = broken.read_bytes()
        broken.write_bytes(original[:-10])
        with pytest.raises(PipelineError):
            fetch(project, hub)
        broken.write_bytes(original)
        pieces = sorted(Path(os.environ[SCRATCH]).iterdir())
        assert [path.name[:5] for path in pieces] == [f"{number:05d}" for number in range(finished)]
        assert contents(fetch(project, hub)) == whole


def test_a_piece_of_a_file_that_is_another_by_now_is_not_gone_on_with(
    project,
    hub,
    tmp_path,
    monkeypatch,
):
    """A folder in the hub's layout has no commit that would say so."""
    monkeypatch.setenv(SCRATCH, str(tmp_path / "data/raw/.passages.scratch/x"))
    first, last = (hub / f"sample/10BT/{number:03d}_00000.parquet" for number in (0, FILES - 1))
    original = last.read_bytes()
    last.write_bytes(original[:-10])
    with pytest.raises(PipelineError):
        fetch(project, hub)
    last.write_bytes(original)
    pq.write_table(pa.table({"text": [f"another {text}" for text in texts_of(0)]}), first)
    found = [document.text for document in read_split(fetch(project, hub), "passages")]
    assert found[:2] == [f"another {text}" for text in texts_of(0)[:2]]
    assert len(found) == COUNT


@pytest.fixture
def sealed(tmp_path) -> Path:
    """A repository whose graph is this one's fetch stage, with a dataset of ten files beside it."""
    root = tmp_path / "project"
    root.mkdir()
    for name in (
        "common",
        "model",
        "stages",
        "pipeline",
        "dvc.yaml",
        "libraries.yaml",
        "pyproject.toml",
    ):
        subprocess.run(["cp", "-r", REPOSITORY / name, root / name], check=True)
    (root / "data").mkdir()
    (root / "data/params.ok").write_text("ok\n")
    make_hub_folder(tmp_path / "hub", 10)
    params = yaml.safe_load((REPOSITORY / "profiles/micro.yaml").read_text())
    passages = {
        "count": 10 * DOCUMENTS_PER_FILE,
        "characters_per_shard": 3000,
        "source": hub_source(tmp_path / "hub"),
    }
    params["fetch"]["passages"] = passages
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


def test_a_stage_killed_anywhere_goes_on_from_its_finished_pieces(sealed):
    """SIGKILL as soon as so many pieces are there, and a random moment later; a finished piece
    keeps its inodes.
    """
    command = [sys.executable, "-m", "stages.fetch", "passages"]
    scratch = sealed / "data/raw/.passages.scratch"
    subprocess.run(command, cwd=sealed, check=True)
    whole = contents(sealed / "data/raw/passages")
    assert not scratch.exists()
    (sealed / "data/raw/passages").rename(sealed / "data/raw/whole")
    moments, seen = random.Random(0), {}
    for pieces in (1, 3, 5, 7):
        running = subprocess.Popen(
            command, cwd=sealed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while len(list(scratch.glob("*/0*"))) < pieces and running.poll() is None:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.02))
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL, "it has ended before"
        now = {path.name: path.stat().st_ino for path in scratch.glob("*/0*")}
        assert seen.items() <= now.items(), "a finished piece was made again"
        seen = now
    done = subprocess.run(command, cwd=sealed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(sealed / "data/raw/passages") == whole
    assert not scratch.exists()
