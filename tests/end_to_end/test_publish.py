"""Publishing from a finished graph as a person does it, and the export's gate, run once more."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from micro_graph import AUTHOR, copy_of, finished_graph, shell  # noqa: F401
from model_hub import TOKEN, serving

pytestmark = pytest.mark.slow("the micro graph runs, and each command imports torch", minutes=4)
RUN = "baseline/seed_1/step_200"


@pytest.fixture(scope="module")
def clone(finished_graph, tmp_path_factory) -> Path:
    root = copy_of(finished_graph, tmp_path_factory.mktemp("publish") / "clone")
    shell(["git", "add", "-A"], root)
    shell(["git", *AUTHOR, "commit", "-qm", "results"], root)
    return root


def run(clone: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    path = f"{Path(sys.executable).parent}:{clean['PATH']}"
    return subprocess.run(
        command,
        cwd=clone,
        env={**clean, "PATH": path, **environment},
        capture_output=True,
        text=True,
    )


def test_a_model_is_published_and_verified_by_commands(clone, tmp_path):
    with serving(tmp_path / "hub") as hub:
        settings = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1",
        }
        for output in (f"exports/{RUN}", f"sft/{RUN}"):
            done = run(
                clone, "python", "-m", "tools.publish", output, "me/tiny",
                HF_TOKEN=TOKEN, **settings,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "measured again: " in done.stdout
            assert TOKEN not in done.stdout + done.stderr
            made = run(
                clone, "make", "--old-file=.venv/.ready", "verify", "MODEL=me/tiny", **settings
            )
            assert made.returncode == 0, made.stderr
            assert f"is {output} of commit" in made.stdout
        assert hub.requests.count("commit") == 2
        refused = run(clone, "python", "-m", "tools.publish", output, "me/other", **settings)
        assert refused.returncode == 1
        assert refused.stderr.splitlines()[-1].startswith("error: hub me/other: the token is miss")


def test_the_gate_stops_an_export_of_another_checkpoint(clone, tmp_path):
    root = copy_of(clone, tmp_path / "clone")
    checkpoint = root / "checkpoints" / RUN
    shutil.rmtree(checkpoint)
    shutil.copytree(root / "checkpoints" / RUN.replace("baseline", "mul_tokens"), checkpoint)
    done = run(root, "python", "-m", "tools.publish", f"exports/{RUN}", "me/tiny", "--dry-run")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: checkpoints/{RUN}: holds mul_tokens")
