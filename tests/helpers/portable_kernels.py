"""Portable kernels for one test, and processes that compute with them as stages do."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from repository import REPOSITORY

from model.numerics import portable
from pipeline.declared.settings import SETTINGS

# The variables that the seal sets for a stage with portable kernels.
VARIABLES = {
    name: value if isinstance(value, str) else value["numerics.kernels"]["portable"]
    for name, value in SETTINGS.variables.items()
}


@contextmanager
def installed() -> Iterator[None]:
    """Install portable kernels for the block, and remove them afterwards."""
    assert not portable.is_installed(), "a test before this one has left them"
    threads = torch.get_num_threads()
    portable.install()
    try:
        yield
    finally:
        portable._library._destroy()
        portable._library = None
        torch.backends.mkldnn.set_flags(True)
        torch.set_num_threads(threads)


@pytest.fixture
def kernels() -> Iterator[None]:
    with installed():
        yield


def environment(**changes: str | None) -> dict[str, str]:
    """Return this process's variables with those of the seal; a value of None removes one."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPENBLAS_", "OMP_", "MKL_", "NPY_", "ATEN_"))
    }
    chosen = {**kept, **VARIABLES, **changes}
    return {name: value for name, value in chosen.items() if value is not None}


def run(program: str, *before: str, **changes: str | None) -> subprocess.CompletedProcess:
    """Run a program with the variables of a stage; `before` is a command that runs Python."""
    return subprocess.run(
        [*before, sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=environment(PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'tests/helpers'}", **changes),
        capture_output=True,
        text=True,
    )
