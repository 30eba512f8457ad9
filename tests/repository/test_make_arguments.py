"""What is given to make may have blanks; and no setting of the machine changes the bytes of a
clone.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

from pipeline.seal.environment import of_any_stage

# A python and a dvc that say what they were given, one argument in each pair of brackets.
TELLS = (
    '#!/bin/sh\nfor word in "$(basename "$0")" "$@"; do printf \'[%s]\' "$word"; done\nprintf'
    " '\\n'\n"
)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A checkout with blanks in its path, in which everything is set up and nothing is real."""
    root = tmp_path / "a check out"
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".dvc").mkdir()
    (root / "tools").mkdir()
    for name in ("Makefile", "tools/install.sh"):
        shutil.copy(REPOSITORY / name, root / name)
    for name in ("python", "dvc"):
        (root / ".venv/bin" / name).write_text(TELLS)
        (root / ".venv/bin" / name).chmod(0o755)
    for name in (
        "requirements.txt",
        "requirements-cuda.txt",
        "requirements-data.txt",
        ".venv/.ready",
        ".dvc/plots_page.html",
    ):
        (root / name).touch()
    return root


def make(root: Path, *arguments: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--old-file=.venv/.ready", "--old-file=.dvc/plots_page.html", *arguments],
        cwd=root,
        env={**clean, **environment},
        text=True,
        capture_output=True,
    )
    return done.stdout + done.stderr


CALLS = {
    ("dry-run", "DIRECTORY=a b/c"): "[python][-m][tools.dry_run][a b/c]",
    ("dry-run", 'DIRECTORY=it\'s "so"'): '[python][-m][tools.dry_run][it\'s "so"]',
    ("impact",): "[python][-m][pipeline.impact]",
    ("impact", "SINCE=a b"): "[python][-m][pipeline.impact][a b]",
    ("impact", "SINCE=v1..v2"): "[python][-m][pipeline.impact][v1..v2]",
    ("verdict",): "[python][-m][tools.verdict][main]",
    ("verdict", "REV=a b"): "[python][-m][tools.verdict][a b]",
    ("plan", "X=0.01"): "[python][-m][tools.plan][0.01]",
    (
        "plan",
        "X=0.01",
        "FIGURE=task score",
        "OUTCOMES=a b",
    ): "[python][-m][tools.plan][0.01][--figure][task score][--outcomes][a b]",
    ("diff", "REV=a b"): "[dvc][params][diff][a b]",
    ("prune",): "[python][-m][pipeline.leftover.prune]",
    ("check",): "[python][-m][pipeline.check]",
    ("watch",): "[python][-m][tools.live.watch]",
    ("watch", "ONCE=1"): "[python][-m][tools.live.watch][--once]",
    ("watch", "PAGE=1"): "[python][-m][tools.live.watch][--page]",
    ("watch", "PAGE=1", "PORT=8 9"): "[python][-m][tools.live.watch][--page][--port][8 9]",
    ("watch", "PAGE=2"): "error: watch: PAGE must be 1 or unset",
    ("verify",): "[python][-m][pipeline.dvc_support.share][verify]",
    ("verify", "MODEL=a b"): "[python][-m][tools.verify][a b]",
    ("verify", "MODEL=a b", "REV=c d"): "[python][-m][tools.verify][a b][--revision][c d]",
    ("repro",): "[python][-m][pipeline.driver]",
    ("repro", "JOBS=4"): "[python][-m][pipeline.driver][--jobs][4]",
    ("repro", "CLUSTER=a b"): "[python][-m][pipeline.driver][--cluster][a b]",
    (
        "gc",
        "CLOUD=1 2",
    ): "error: gc: CLOUD must be 1 or unset; make gc CLOUD=1 frees the remote as well",
}


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_what_is_given_to_make_arrives_as_it_was_given(folder, call):
    assert CALLS[call] in make(folder, *call).splitlines()


def test_a_dry_run_without_a_folder_makes_one(folder):
    said = make(folder, "dry-run")
    assert said.startswith("[python][-m][tools.dry_run][/")
    Path(said.strip()[len("[python][-m][tools.dry_run][") : -1]).rmdir()


def test_the_environment_may_name_what_make_is_given(folder):
    assert "[python][-m][tools.dry_run][a b]" in make(folder, "dry-run", DIRECTORY="a b")
    assert "[python][-m][pipeline.driver]" in make(folder, "repro", JOBS="4"), "another program's"
    said = make(folder, "verify", "MODEL=a/b", REV="c")
    assert "[python][-m][tools.verify][a/b]" in said.splitlines(), "another program's"


def test_a_python_in_a_folder_with_blanks_sets_up(folder):
    other = folder / "another python"
    other.mkdir()
    shutil.copy(folder / ".venv/bin/python", other / "python3.11")
    (folder / ".venv/.ready").unlink()
    done = subprocess.run(
        ["make", "setup", f"PYTHON={other}/python3.11", "--old-file=.dvc/plots_page.html"],
        cwd=folder,
        text=True,
        capture_output=True,
    )
    assert f"[python3.11][-m][venv][--clear][{folder}/.venv]" in done.stdout, (
        done.stdout + done.stderr
    )


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_a_notebooks_backend_of_matplotlib_stops_no_tool(backend):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import tools.fault_panels, model.curves.all_figures, model.curves.evidence",
        ],
        cwd=REPOSITORY,
        text=True,
        env={**os.environ, "MPLBACKEND": backend},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr


def test_every_tool_that_draws_is_a_module_of_tools(monkeypatch):
    """tools/__init__.py sets the backend; the variable does not reach stages."""
    monkeypatch.setenv("MPLBACKEND", "module://none")
    assert "MPLBACKEND" not in of_any_stage()
    ours = [
        path
        for path in REPOSITORY.rglob("*.py")
        if ".venv" not in path.relative_to(REPOSITORY).parts
    ]
    drawing = [path for path in ours if "import matplotlib" in path.read_text().split('"""', 2)[-1]]
    assert {path.relative_to(REPOSITORY).parts[0] for path in drawing} <= {
        "model",
        "tools",
        "tests",
    }


TEXTS = (
    "dvc.yaml",
    "params.yaml",
    "Makefile",
    ".pre-commit-config.yaml",
    ".dvcignore",
    "stages/params.py",
    "requirements.txt",
)


@pytest.mark.parametrize("attributes", [True, False])
def test_a_clone_that_converts_line_endings_has_the_same_bytes(tmp_path, attributes):
    """Without .gitattributes every file of it would be another, so this clone would show it."""
    source = tmp_path / "source"
    for name in (*TEXTS, *[".gitattributes"] * attributes):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, source / name)
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=source, check=True)
    clone = tmp_path / "clone"
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_CONFIG_")
    }
    command = ["git", "clone", "-q", "-c", "core.autocrlf=true", str(source), str(clone)]
    subprocess.run(command, check=True, env=environment)
    same = {
        name for name in TEXTS if (clone / name).read_bytes() == (REPOSITORY / name).read_bytes()
    }
    assert same == (set(TEXTS) if attributes else set())
