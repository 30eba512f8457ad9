"""The micro graph under every Python of this machine that pyproject.toml declares: the same bytes.

Each version gets an environment of its own, by tools/install.sh: with uv where it is on PATH in
seconds, else with pip in minutes; 2 to 6 GB while its test runs.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from micro_graph import finished_graph, micro_clone, outputs  # noqa: F401
from repository import REPOSITORY

pytestmark = pytest.mark.slow("an environment and a micro graph for each Python", minutes=12)

VERSIONS = ("3.11", "3.12", "3.13", "3.14")


def python_of(version: str) -> Path | None:
    """Return a Python of that version, from PATH or pyenv's folder, other than an environment's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python3")]
    for path in filter(None, found):
        asked = [str(path), "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
        if subprocess.run(asked, capture_output=True, text=True).stdout.strip() == version:
            return Path(path)
    return None


def everything(clone: Path) -> dict[str, bytes]:
    """Return all that a run writes: the outputs, the report and the locks."""
    names = ("plots/report.html", "dvc.lock", "dvc.contents.json")
    return {**outputs(clone), **{name: (clone / name).read_bytes() for name in names}}


@pytest.fixture
def environment(tmp_path):
    """A folder for an environment, which is removed after the test."""
    yield tmp_path / "environment"
    shutil.rmtree(tmp_path / "environment", ignore_errors=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_bytes_of_the_micro_graph_do_not_depend_on_the_version(
    version, environment, tmp_path, finished_graph
):
    python = python_of(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    locks = ("requirements.txt", "requirements-cuda.txt", "requirements-data.txt")
    subprocess.run(
        ["tools/install.sh", str(environment), *locks],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHON": str(python)},
        check=True,
    )
    clone = tmp_path / "clone"
    clone.mkdir()
    micro_clone(clone, environment)
    path = f"{environment}/bin:{os.environ['PATH']}"
    done = subprocess.run(
        ["python", "-m", "pipeline.driver"],
        cwd=clone,
        env={**os.environ, "PATH": path},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    assert (environment / f"lib/python{version}").is_dir()
    ours, theirs = everything(clone), everything(finished_graph)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
