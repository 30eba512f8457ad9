"""An empty directory in which a test runs the fetch stage."""

import hashlib
from pathlib import Path

import pytest
import yaml
from repository import REPOSITORY

from common.errors import PipelineError
from stages import fetch

PROFILE = REPOSITORY / "profiles/micro.yaml"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Make a directory with the micro profile's `fetch` section, with HellaSwag as its only task.

    Returns a function that changes an input and fetches it; a task is called by its name.
    """
    monkeypatch.chdir(tmp_path)
    section = yaml.safe_load(PROFILE.read_text())["fetch"]
    section["tasks"] = {"hellaswag": section["tasks"]["hellaswag"]}

    def run(name: str, **changes) -> Path:
        (section["tasks"] if name in section["tasks"] else section)[name].update(changes)
        Path("params.yaml").write_text(yaml.safe_dump({"fetch": section}))
        raw = "tasks" if name in section["tasks"] else name
        monkeypatch.setattr("sys.argv", ["fetch", raw])
        fetch.main()
        return tmp_path / "data/raw" / raw

    return run


def fails(project, name: str, match: str, **changes) -> None:
    with pytest.raises(PipelineError, match=match) as caught:
        project(name, **changes)
    assert "\n" not in str(caught.value)
    assert not list(Path("data").rglob("*.*")), "nothing may be written"


def pinned(path: Path) -> dict:
    return {
        "kind": "files",
        "files": [{"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}],
    }


ITEM = {
    "ind": 1,
    "activity_label": "Baking",
    "ctx_a": "A cook",
    "ctx_b": "",
    "ctx": "A cook",
    "endings": ["a", "b", "c", "d"],
    "source_id": "wikihow~1",
    "label": 2,
}
OTHER = {**ITEM, "ind": 2, "ctx": "A cook peels", "source_id": "wikihow~2"}
