"""SIGKILL at random moments of the stages that all of the corpus goes through: the next run ends
with the very same bytes.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from corpus_project import contents, make_corpus_project

pytestmark = pytest.mark.slow("stages are killed at random moments and run again", minutes=1)

KILLS = 10  # for each stage


@pytest.fixture(scope="module")
def project(tmp_path_factory, ranks_file) -> Path:
    return make_corpus_project(tmp_path_factory.mktemp("killed"), ranks_file)


def start(project: Path, arguments: list[str]) -> subprocess.Popen:
    command = [sys.executable, "-m", *arguments]
    return subprocess.Popen(
        command,
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(project: Path, arguments: list[str]) -> float:
    started = time.monotonic()
    with start(project, arguments) as process:
        said, _ = process.communicate()
    assert process.returncode == 0, said
    return time.monotonic() - started


def working_directories() -> set[str]:
    """Return those of all processes that this one may ask."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or another user's
            found.add(os.readlink(process / "cwd"))
    return found


def wait_for_workers(project: Path) -> None:
    """On a busy machine the workers of a killed stage take a moment to die, and hold its lock until
    then.
    """
    deadline = time.monotonic() + 30
    while str(project) in working_directories():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["stages.corpus"], "data/corpus"),
        (["stages.tokenize", "mul_tokens"], "data/tokens/mul_tokens"),
    ],
    ids=["corpus", "tokenize"],
)
def test_a_killed_stage_ends_with_the_bytes_of_an_undisturbed_one(project, arguments, output):
    directory = project / output
    scratch = directory.with_name(f".{directory.name}.scratch")
    seconds = finish(project, arguments)
    undisturbed = contents(directory)
    assert len(undisturbed) > 10
    moments = random.Random(output)
    went_on = 0
    for _ in range(KILLS):
        shutil.rmtree(directory)  # as dvc does before it runs a stage
        with start(project, arguments) as process:
            time.sleep(moments.uniform(0.2, 1) * seconds)
            os.killpg(process.pid, signal.SIGKILL)
        wait_for_workers(project)
        went_on += len(list(scratch.glob("*/*/SHA256SUMS"))) > 0
        finish(project, arguments)
        assert contents(directory) == undisturbed
        assert not scratch.exists()
    assert went_on, "no kill came between two pieces, so nothing was shown"
