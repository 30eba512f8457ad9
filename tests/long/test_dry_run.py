"""The full-size profile on a slice, from fetch to report: one run, and what would make it show less
than it says.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import REPOSITORY

from pipeline.declared.dvc_yaml import read_stages, value_at
from pipeline.declared.file_trees import WorkingTree
from tools.dry_run import __main__ as dry_run
from tools.dry_run import profile_slice
from tools.dry_run.fake_hub import HubServer

pytestmark = pytest.mark.slow("the full-size profile on a slice, from fetch to report", minutes=3)

DRY_RUN = [sys.executable, "-m", "tools.dry_run"]


def profile() -> dict:
    return yaml.safe_load((REPOSITORY / dry_run.PROFILE).read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a dry run, and what it printed."""
    directory = tmp_path_factory.mktemp("dry") / "run"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [*DRY_RUN, directory], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return directory, done.stdout


def test_every_stage_of_the_profile_has_run_and_training_went_on_after_its_kill(finished):
    _, said = finished
    rows = dict(re.findall(r"^\| (\w+) \| \d+ \| [\d.]+ \| (.*) \|$", said, flags=re.MULTILINE))
    assert rows.keys() == read_stages(WorkingTree(REPOSITORY)).keys()
    assert re.search(
        r"^2 processes \(gloo\), \w+, torch.compile \w+; killed with step_\d, resumes from"
        r" step \d$",
        rows["pretrain"],
    )
    assert rows["evaluate"].startswith("2 processes")
    assert "Not exercised:\n- CUDA" in said


def test_only_the_values_of_the_slice_differ_from_the_profile(finished):
    directory, said = finished
    run, whole = yaml.safe_load((directory / "clone/params.yaml").read_text()), profile()
    replaced = re.findall(r"^\| (\w+\.[\w.]+) \|", said, flags=re.MULTILINE)
    assert set(replaced) <= {
        *profile_slice.SLICE,
        *profile_slice.lacking(),
        *(key for key in replaced if re.search("^fetch.*count$", key)),
    }
    for key in replaced:
        section, _, name = key.rpartition(".")
        assert value_at(run, key) != value_at(whole, key)
        value_at(run, section)[name] = value_at(whole, key)
    assert run == whole


def test_every_hub_source_was_asked_for_by_name_and_commit(finished):
    """A local folder would have been read without a server; the profile names repositories."""
    directory, _ = finished
    fetch = profile()["fetch"]
    sources = [fetch[name]["source"] for name in ("ranks", "passages", "gsm8k")]
    sources.append(fetch["tasks"]["hellaswag"]["source"])
    sources += [source["source"] for source in fetch["conversations"].values()]
    assert {source["kind"] for source in sources} == {"hub"}
    for source in sources:
        name = source.get("dataset") or source["repository"]
        cached = (
            directory
            / "home/hub"
            / f"{'datasets' if 'dataset' in source else 'models'}--{name.replace('/', '--')}"
        )
        assert [path.name for path in (cached / "snapshots").iterdir()] == [source["revision"]]


def test_evidence_that_is_not_there_is_an_error(finished):
    directory, _ = finished
    run = dry_run.Run.__new__(dry_run.Run)
    run.clone = directory / "clone"
    params = yaml.safe_load((run.clone / "params.yaml").read_text())
    server, resumed = HubServer([]), "pretrain x: resumes from step 2"
    assert "pretrain" in dry_run.evidence_of(run, params, server, "states/step_2", resumed)
    with pytest.raises(SystemExit, match="did not go on from its state"):
        dry_run.evidence_of(run, params, server, "states/step_2", "")
    params["evaluate"]["processes"] = 1
    with pytest.raises(SystemExit, match="not two processes"):
        dry_run.evidence_of(run, params, server, "states/step_2", resumed)
    server.server_close()


def test_a_value_of_the_slice_that_the_profile_has_no_more_is_an_error():
    params = profile()
    del params["pretrain"]["state_every"]
    with pytest.raises(KeyError, match=r"pretrain\.state_every"):
        profile_slice.sliced(params, {})


def test_a_folder_that_is_not_empty_is_refused(tmp_path):
    (tmp_path / "file").touch()
    done = subprocess.run([*DRY_RUN, tmp_path], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stderr == f"error: dry run: {tmp_path} is not empty; name a new directory\n"
    assert done.returncode == 1
