"""A small project with one sealed stage, whose body a test writes."""

import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import REPOSITORY

from pipeline.seal import landlock

HAS_LANDLOCK = sys.platform == "linux" and landlock.available() > 0
native = pytest.mark.skipif(
    not HAS_LANDLOCK, reason="this kernel has no Landlock, so native code is not guarded"
)
DVC_YAML = """
stages:
  probe:
    matrix:
      which: ${names}
    cmd: python -m stages.probe ${item.which}
    deps: [data/declared.txt, data/folder, common/__init__.py, common/errors.py, common/sections.py, common/share.py, common/yaml_file.py,
      stages/__init__.py, stages/probe.py]
    params: [wanted, {libraries.yaml: [probe]}]
    outs: [data/out.txt, "out/${item.which}"]
    metrics: [{metrics/probe.json: {cache: false}}]
  fetch:
    meta: {network: true, resumable: true}
    cmd: python -m stages.fetch
    deps: [common/__init__.py, common/errors.py, common/share.py, stages/__init__.py, stages/fetch.py]
    outs: [data/fetched]
"""  # noqa: E501
STAGE = """
import os
import sys
from pathlib import Path

from common.errors import run_stage
from common.sections import read_section


def main():
    {wanted}
    {body}


if __name__ == "__main__":
    run_stage(main)
"""
USE_DEPS = 'open("data/declared.txt").read(); os.listdir("data/folder")'
WANTED = 'read_section("wanted", int)'


@pytest.fixture
def project(tmp_path) -> Path:
    root = tmp_path / "project"
    for name in ("common", "model/runtime", "stages", "data/folder", "data/other", "out"):
        (root / name).mkdir(parents=True)
    shutil.copytree(REPOSITORY / "pipeline", root / "pipeline")
    for name in (
        "pyproject.toml",
        "common/__init__.py",
        "common/errors.py",
        "common/files.py",
        "common/sections.py",
        "common/share.py",
        "common/yaml_file.py",
        "stages/__init__.py",
    ):
        shutil.copy(REPOSITORY / name, root / name)
    numpy = __import__("numpy").__version__
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / "params.yaml").write_text("names: [a, b]\nwanted: 3\nother: 4\n")
    (root / "libraries.yaml").write_text(f'probe: {{numpy: "{numpy}"}}\n')
    for name in (
        "data/declared.txt",
        "data/folder/inside.txt",
        "data/secret.txt",
        "data/other/secret.txt",
        "common/secret.py",
    ):
        (root / name).write_text(f"SECRET = '{name}'\n")
    return root


@pytest.fixture
def signals(tmp_path) -> Iterator[Path]:
    """Yield a folder that a sealed stage and the test can write to: the seal allows /dev."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if HAS_LANDLOCK else tmp_path) as folder:
        yield Path(folder)


def run(
    project: Path,
    body: str = "pass",
    stage: str = "probe a",
    wanted: str = WANTED,
    environment: dict | None = None,
) -> subprocess.CompletedProcess:
    name, *arguments = stage.split()
    source = STAGE.format(
        wanted=f"{wanted}; {USE_DEPS if name == 'probe' else ''}",
        body=textwrap.indent(body, "    ").strip(),
    )
    (project / f"stages/{name}.py").write_text(source)
    command = [sys.executable, "-m", f"stages.{name}", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, env=environment)


def error(done: subprocess.CompletedProcess) -> str:
    assert done.returncode != 0, done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1]
