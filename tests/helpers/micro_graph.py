"""Clones of the working tree with the micro profile, and the commands that tests run in them."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

FILES = [
    "dvc.yaml",
    "stages.yaml",
    "libraries.yaml",
    "pyproject.toml",
    "requirements.txt",
    "requirements-cuda.txt",
    "requirements-data.txt",
    "profiles",
    "common",
    "model",
    "stages",
    "pipeline",
    "tools",
    "Makefile",
    ".dvc/config",
    ".dvc/.gitignore",
    "plots/dvc.yaml",
    ".dvcignore",
    ".gitignore",
]
AUTHOR = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def shell(command: list[str], clone: Path, check: bool = True) -> str:
    done = subprocess.run(
        command,
        cwd=clone,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert not check or done.returncode == 0, done.stdout
    return done.stdout


def changed(clone: Path) -> set[str]:
    """Return the stages that `dvc status` says have changed, without `report`."""
    return set(
        re.findall(r"^([a-z]+(?:@[\w-]+)?):$", shell(["dvc", "status"], clone), flags=re.MULTILINE)
    ) - {"report"}


def repro(clone: Path) -> set[str]:
    """Run `dvc repro`; return the stages that were executed, not restored or skipped.

    `report` is left out: it names all code and parameters, so every edit of them reruns it.
    """
    return set(re.findall(r"Running stage '([^']+)'", shell(["dvc", "repro"], clone))) - {"report"}


def outputs(clone: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(clone)): path.read_bytes()
        for root in (
            "data",
            "checkpoints",
            "losses",
            "exports",
            "scores",
            "sft",
            "sft_losses",
            "generations",
            "samples",
            "metrics",
            "plots",
        )
        for path in sorted((clone / root).rglob("*"))
        if path.is_file() and path.name != "report.html"  # it changes with every edit of code
    }


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has {text.count(old)} times: {old}"
    path.write_text(text.replace(old, new))


def micro_clone(directory: Path, environment: Path = Path(sys.prefix)) -> None:
    """Copy the working tree with the micro profile into `directory`, and commit it.

    Its .venv is a link to `environment`.
    """
    for name in FILES:
        source, target = REPOSITORY / name, directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(
                source, target, follow_symlinks=False
            )  # copy2 keeps times, so that make sees nothing to set up
    shutil.copy(directory / "profiles/micro.yaml", directory / "params.yaml")
    (directory / ".venv").symlink_to(environment)
    shell(["git", "init", "-q", "-b", "main"], directory)
    shell(["git", "add", "-A"], directory)
    shell(["git", *AUTHOR, "commit", "-qm", "micro"], directory)


@pytest.fixture(scope="session")
def finished_graph(tmp_path_factory) -> Path:
    """Return a clone whose whole micro graph has run: once for all processes of pytest-xdist.

    Tests read it and change copies (`copy_of`). `executed.txt` beside it lists the stages that ran.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "micro_graph"
    folder.mkdir(exist_ok=True)
    clone, executed = folder / "clone", folder / "executed.txt"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not executed.exists():
            shutil.rmtree(clone, ignore_errors=True)  # a process may have failed half-way
            micro_clone(clone)
            executed.write_text("\n".join(sorted(repro(clone))))
    return clone


def copy_of(clone: Path, directory: Path) -> Path:
    """Copy a clone with its data and its cache; keep links and times."""
    return Path(shutil.copytree(clone, directory, symlinks=True))
