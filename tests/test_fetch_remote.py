"""The hub's own protocol, hf:// paths and all, on a server on this machine that fails as networks do."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY
from hub_folder import DOCUMENTS_PER_FILE, hub_source, listing_of, make_hub_folder, texts_of

from model.documents import read_split
from tools.hub_server import HubServer, Repository

REPOSITORY_ID, FILES, COMMIT = "someone/texts", 3, "0123456789" * 4
FIRST = "sample/10BT/000_00000.parquet"
FETCH = """
import sys
from model.errors import run_stage
from stages import fetch
sys.argv = ["fetch", "passages"]
run_stage(fetch.main)
"""


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
def fetch(tmp_path, server):
    """Fetches from the server in a process of its own, for huggingface_hub reads its endpoint when it is imported."""

    def run(offline: bool = False, **source) -> subprocess.CompletedProcess:
        chosen = hub_source(Path("none"), **{"dataset": REPOSITORY_ID, "revision": COMMIT, **source})
        params = {"count": FILES * DOCUMENTS_PER_FILE, "characters_per_shard": 3000, "source": chosen}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump({"fetch": {"passages": params}}))
        home = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": server.endpoint, "NO_PROXY": "127.0.0.1"}
        environment = {**os.environ, **home, "HF_HUB_OFFLINE": str(int(offline)), "PYTHONPATH": str(REPOSITORY)}
        return subprocess.run([sys.executable, "-c", FETCH], cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


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
    assert f"hub file {REPOSITORY_ID}/{FIRST} at 012345678901: cannot be read (its SHA-256 is" in done.stderr
    assert "the hub states" in done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert server.sent.count(FIRST) == 1


@pytest.mark.parametrize("fault", [None, "alter"])
def test_a_file_without_a_sha256_is_held_to_the_id_that_git_gives_it(fetch, server, folder, tmp_path, fault):
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "data.jsonl").write_text("".join(json.dumps({"text": text}) + " \n" for text in EXPECTED))
    server.faults["data.jsonl"] = [fault] * 9  # the last byte is another, of a blank line
    done = fetch(subset=None)
    if fault is None:
        assert done.returncode == 0, done.stderr
        assert texts(tmp_path) == EXPECTED
    else:
        assert f"hub file {REPOSITORY_ID}/data.jsonl at 012345678901: cannot be read (its git id is" in done.stderr
        assert done.returncode == 1


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
