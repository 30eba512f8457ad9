"""The same bytes of training, fine-tuning, generation, scoring and comparison on every processor.

QEMU in user mode computes floating point exactly, and has the vendor, model and instructions of the
processor that it is told; libraries choose their code by these.
"""

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from gpt2_directories import save_gpt2
from portable_kernels import VARIABLES, environment
from repository import REPOSITORY

from model.numerics import processor

WORK = REPOSITORY / "tests/helpers/portable_work.py"
EMULATED = ("Haswell", "Skylake-Client", "EPYC")
NETWORK_STAGES = ("pretrain", "pretrain otherwise", "sft", "generate", "evaluate")
STAGES = {*NETWORK_STAGES, "compare"}
# QEMU 7.2 takes the register ymm4 of a gather for no index at all (its bug report 2474): numpy's
# argsort for AVX2 then returns wrong permutations, and np.unique in `compare` ends with a
# segmentation fault. So numpy has its code without AVX2 in that emulated process.
WITHOUT_GATHERS = VARIABLES["NPY_DISABLE_CPU_FEATURES"] + " X86_V3"
pytestmark = [
    pytest.mark.slow("processors are emulated, a few dozen times slower", minutes=20),
    pytest.mark.skipif(processor.lacks() is not None, reason=processor.lacks() or ""),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("work")
    save_gpt2(folder / "gpt2", tokenizer, layers=2, heads=2, width=32, context=64)

    @cache
    def hashes(threads: int = 1) -> dict[str, str]:
        found = compute(folder, PIPELINE_THREADS=str(threads))
        assert found.keys() == STAGES
        return found

    hashes.folder = folder
    return hashes


def compute(
    folder: Path, *stages: str, before: tuple[str, ...] = (), **changes: str
) -> dict[str, str]:
    """Return the hash of each of the stages, by default of all.

    `before` is a command that runs Python, `changes` are variables.
    """
    done = subprocess.run(
        [*before, sys.executable, WORK, folder, *stages],
        cwd=REPOSITORY,
        env=environment(PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'tests/helpers'}", **changes),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads(work, threads):
    assert work(threads=threads) == work()


@pytest.mark.parametrize("name", EMULATED)
def test_other_processors(work, name):
    emulator = shutil.which("qemu-x86_64")
    if emulator is None and "REQUIRE_QEMU" not in os.environ:
        pytest.skip("qemu-x86_64 (Debian's qemu-user) is not installed")
    before = (emulator or "qemu-x86_64", "-cpu", name)
    one = {"before": before, "PIPELINE_THREADS": "1"}
    found = compute(work.folder, *NETWORK_STAGES, **one)
    found |= compute(work.folder, "compare", NPY_DISABLE_CPU_FEATURES=WITHOUT_GATHERS, **one)
    assert found == work()


def test_other_kernels_have_other_bytes(work):
    """So that equal hashes mean something."""
    changed = compute(work.folder, PIPELINE_THREADS="1", OPENBLAS_CORETYPE="Nehalem")
    assert {name for name, value in work().items() if changed[name] != value} >= {
        "evaluate",
        "pretrain",
        "pretrain otherwise",
        "sft",
    }
