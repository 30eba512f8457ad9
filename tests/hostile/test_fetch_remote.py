"""The hub's own protocol, hf:// paths and all, on a server on this machine that fails as networks
do.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fault_table import seen
from fetch_project import ITEM
from hub_folder import DOCUMENTS_PER_FILE, hub_source, listing_of, make_hub_folder, texts_of
from repository import REPOSITORY

from common.files import read_jsonl
from model.data.documents import read_split
from tools.dry_run.fake_hub import HubServer, Repository

pytestmark = pytest.mark.slow("a server fails and the stage tries again", minutes=0.3)

REPOSITORY_ID, FILES, COMMIT = "someone/texts", 3, "0123456789abcdef0123456789abcdef01234567"
FIRST = "sample/10BT/000_00000.parquet"
FETCH = """
import sys
from model.sources import hub
from common.errors import run_stage
from stages import fetch
hub.SECONDS_BEFORE_RETRIES = (0,) * len(hub.SECONDS_BEFORE_RETRIES)
run_stage(fetch.main)
"""
QUESTIONS = [
    {"question": f"How many are {number} and 1?", "answer": f"#### {number + 1}"}
    for number in range(5)
]
ITEMS = [
    {**{name: ITEM[name] for name in ITEM if name != "source_id"}, "source_id": f"wikihow~{number}"}
    for number in range(3)
]
RECORDS = {"tasks": ITEMS, "gsm8k": QUESTIONS, "conversations": QUESTIONS}


@pytest.fixture
def folder(tmp_path) -> Path:
    make_hub_folder(tmp_path / "hub", FILES)
    return tmp_path / "hub"


@pytest.fixture
def server(folder):
    server = HubServer([Repository(f"datasets/{REPOSITORY_ID}", folder, COMMIT)])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def fetch_input(tmp_path, server):
    """Fetches from the server in a process of its own, for huggingface_hub reads its endpoint when
    it is imported.
    """

    def run(name: str, params: dict, offline: bool = False) -> subprocess.CompletedProcess:
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({"fetch": {name: params}}))
        home = {
            "HF_HOME": str(tmp_path / "home"),
            "HF_ENDPOINT": server.endpoint,
            "NO_PROXY": "127.0.0.1",
        }
        environment = {
            **os.environ,
            **home,
            "HF_HUB_OFFLINE": str(int(offline)),
            "PYTHONPATH": str(REPOSITORY),
        }
        command = [sys.executable, "-c", FETCH, name]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run


@pytest.fixture
def fetch(fetch_input):
    def run(offline: bool = False, **source) -> subprocess.CompletedProcess:
        chosen = hub_source(
            Path("none"), **{"dataset": REPOSITORY_ID, "revision": COMMIT, **source}
        )
        params = {
            "count": FILES * DOCUMENTS_PER_FILE,
            "characters_per_shard": 3000,
            "source": chosen,
        }
        return fetch_input("passages", params, offline)

    return run


@pytest.fixture
def fetch_records(fetch_input, folder):
    """Serves an input's records, two files of them, and fetches it."""

    def run(name: str, kind: str) -> subprocess.CompletedProcess:
        shutil.rmtree(folder)
        folder.mkdir()
        records = RECORDS[name]
        for number, part in enumerate((records[:1], records[1:])):
            path = folder / f"train-{number}.{kind}"
            if kind == "parquet":
                pq.write_table(pa.Table.from_pylist(part), path)
            else:
                path.write_text("".join(json.dumps(record) + "\n" for record in part))
        source = {
            "kind": "hub",
            "dataset": REPOSITORY_ID,
            "subset": None,
            "split": "train",
            "revision": COMMIT,
        }
        params = {"count": len(records), "source": source}
        formats = {"tasks": "hellaswag", "conversations": "gsm8k"}
        if name in formats:
            params = {"mine": {**params, "format": formats[name]}}
        return fetch_input(name, params)

    return run


def fetched(tmp_path: Path, name: str) -> list[dict]:
    """Return an input's records as they were served."""
    [path] = (tmp_path / "data/raw" / name).glob("*.jsonl")
    rows = read_jsonl(path)
    if name != "conversations":
        return rows
    return [
        {
            key: each["content"]
            for key, each in zip(("question", "answer"), row["messages"], strict=True)
        }
        for row in rows
    ]


def texts(tmp_path: Path) -> list[str]:
    return [document.text for document in read_split(tmp_path / "data/raw/passages", "passages")]


EXPECTED = [text for file in range(FILES) for text in texts_of(file)]


def test_a_subset_comes_whole_from_a_server(fetch, server, folder, tmp_path):
    done = fetch()
    assert done.returncode == 0, done.stderr
    assert texts(tmp_path) == EXPECTED
    digest = listing_of(folder, sorted(folder.glob("sample/10BT/*")))
    assert f"fetch.passages.source.sha256 is {digest}" in done.stdout
    assert [name for name in server.sent if name.endswith(".parquet")] == [
        f"sample/10BT/00{n}_00000.parquet" for n in range(FILES)
    ]


@pytest.mark.parametrize("fault", ["cut", "503"])
def test_a_network_that_fails_at_first_is_waited_for(fetch, server, tmp_path, fault):
    server.faults[FIRST] = [fault]
    server.faults["api"] = ["503"]
    done = fetch()
    assert done.returncode == 0, done.stderr
    assert texts(tmp_path) == EXPECTED
    assert server.sent.count(FIRST) > 1


def test_bytes_that_are_not_those_the_hub_states_are_refused(fetch, server, tmp_path):
    server.faults[FIRST] = ["alter"] * 9
    done = fetch()
    assert (
        f"hub file {REPOSITORY_ID}/{FIRST} at 0123456789ab: cannot be read (its SHA-256 is"
        in done.stderr
    )
    assert "the hub states" in done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert server.sent.count(FIRST) == 1


@pytest.mark.parametrize("fault", [None, "alter"])
def test_a_file_without_a_sha256_is_held_to_the_id_that_git_gives_it(
    fetch, server, folder, tmp_path, fault
):
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "data.jsonl").write_text(
        "".join(json.dumps({"text": text}) + " \n" for text in EXPECTED)
    )
    server.faults["data.jsonl"] = [fault] * 9  # the last letter is another
    done = fetch(subset=None)
    if fault is None:
        assert done.returncode == 0, done.stderr
        assert texts(tmp_path) == EXPECTED
    else:
        assert (
            f"hub file {REPOSITORY_ID}/data.jsonl at 0123456789ab: cannot be read (its git id is"
            in done.stderr
        )
        assert done.returncode == 1


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("name", RECORDS)
def test_every_dataset_comes_whole_when_the_hub_fails_at_first(
    fetch_records, server, tmp_path, name, kind
):
    server.faults = {"api": ["503"], f"train-1.{kind}": ["cut"]}
    done = fetch_records(name, kind)
    assert done.returncode == 0, done.stderr
    assert fetched(tmp_path, name) == RECORDS[name]
    assert done.stderr.count(f"hub dataset {REPOSITORY_ID}: ") == 1
    assert server.sent.count(f"train-1.{kind}") > 1
    assert not list((tmp_path / "data/raw").glob(".*")), "copies go"


@pytest.mark.parametrize(("kind", "stated"), [("parquet", "SHA-256"), ("jsonl", "git id")])
@pytest.mark.parametrize("name", RECORDS)
def test_no_dataset_is_made_of_bytes_that_are_not_those_the_hub_states(
    fetch_records, server, tmp_path, name, kind, stated
):
    server.faults[f"train-1.{kind}"] = ["alter"] * 9
    done = fetch_records(name, kind)
    assert done.returncode == 1, "altered bytes were taken"
    [line] = done.stderr.strip().splitlines()
    assert line.startswith(
        f"error: hub file {REPOSITORY_ID}/train-1.{kind} at 0123456789ab: cannot be read (its"
        f" {stated} is"
    )
    assert not list((tmp_path / "data/raw").iterdir())


@pytest.mark.parametrize("name", RECORDS)
def test_a_hub_that_stays_out_of_reach_is_the_documented_line_after_five_attempts(
    fetch_records, server, name
):
    server.faults["api"] = ["503"] * 999
    done = fetch_records(name, "jsonl")
    assert done.returncode == 1
    *attempts, last = done.stderr.strip().splitlines()
    assert len(attempts) == 4
    dataset, _ = seen("the Hugging Face hub is out of reach")
    assert re.match(dataset.replace("NAME", REPOSITORY_ID).replace("COMMIT", COMMIT[:12]), last)


@pytest.mark.parametrize("refusals", [1, 5])
def test_a_file_of_a_model_is_asked_for_five_times(fetch_input, server, refusals):
    """What arrives is no vocabulary, and said to be none: it has been read."""
    server.faults["README.md"] = ["503"] * refusals
    source = {
        "kind": "hub",
        "repository": REPOSITORY_ID,
        "filename": "README.md",
        "revision": COMMIT,
    }
    server.repositories = [server.repositories[0]._replace(name=f"models/{REPOSITORY_ID}")]
    done = fetch_input("ranks", {"count": 257, "sha256": "0" * 64, "source": source})
    assert done.returncode == 1
    *attempts, last = done.stderr.strip().splitlines()
    assert len(attempts) == min(refusals, 4)
    _, file = seen("the Hugging Face hub is out of reach")
    refused = re.match(
        file.replace("NAME", f"{REPOSITORY_ID}/README.md").replace("COMMIT", COMMIT[:12]), last
    )
    assert bool(refused) == (refusals == 5)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ({"dataset": "no/such"}, "doesn't exist on the Hub"),
        ({"subset": "none"}, "none"),
        ({"split": "test"}, "no split test; it has train"),
        ({"offline": True}, "OfflineModeIsEnabled"),
    ],
)
def test_what_cannot_pass_is_one_line_and_asked_once(fetch, source, reason):
    done = fetch(**source)
    assert done.returncode == 1
    [line] = done.stderr.strip().splitlines()
    assert line.startswith("error: hub dataset ")
    assert reason in line
