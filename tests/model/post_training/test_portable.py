"""Fine-tuning and answers with portable kernels, each in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY
from tiny_fine_tuning import new_project

from pipeline.seal.environment import library_variables

SCRIPT = REPOSITORY / "tests/helpers/portable_post_training.py"


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tokenizer) -> Path:
    return new_project(tmp_path_factory.mktemp("gpt2"), tokenizer).directory


def computed(gpt2: Path, states: Path, threads: int, *kill: str) -> subprocess.CompletedProcess:
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENBLAS_", "OMP_", "MKL_"))
    }
    path = f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests/helpers'}"
    return subprocess.run(
        [sys.executable, SCRIPT, gpt2, states, *kill],
        env=variables
        | library_variables({"numerics.kernels": "portable"})
        | {"PIPELINE_THREADS": str(threads), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def output(finished: subprocess.CompletedProcess, threads: int) -> str:
    assert finished.returncode == 0, finished.stderr
    assert f"{threads} threads" in finished.stderr
    return finished.stdout


@pytest.mark.slow("five processes, one after another", minutes=1)
def test_any_number_of_threads_and_a_kill_give_the_same_bytes(gpt2, tmp_path):
    expected = output(computed(gpt2, tmp_path / "1/work", 1), 1)
    for threads in (2, 3):
        found = output(computed(gpt2, tmp_path / f"{threads}/work", threads), threads)
        assert found == expected
    killed = computed(gpt2, tmp_path / "killed/work", 3, "kill")
    assert killed.returncode == -signal.SIGKILL
    resumed = computed(gpt2, tmp_path / "killed/work", 2)
    assert output(resumed, 2) == expected
    assert "sft x: resumes from step 2" in resumed.stderr
    assert "warning" not in resumed.stderr
