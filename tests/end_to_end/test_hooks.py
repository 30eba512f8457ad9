"""`make hook`: what git refuses to commit, and how it merges what a run writes. Without a
network.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import REPOSITORY

pytestmark = pytest.mark.slow("runs make, pre-commit, git and dvc in clones")

HOOKS = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())
READY = (".venv/.ready", ".venv/.ready-dev")
AUTHOR = ("-c", "user.name=t", "-c", "user.email=t@example.org")


class Clone:
    """A repository in which `make hook` has been run, and which has nothing of this one but its
    settings.
    """

    def __init__(self, root: Path):
        self.root = root
        root.mkdir()
        for name in (".gitattributes", ".pre-commit-config.yaml", "Makefile", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, root)
        for name in ("", "-cuda", "-data", "-dev"):
            (root / f"requirements{name}.txt").touch()
        (root / ".venv").symlink_to(sys.prefix)
        (root / ".gitignore").write_text("/.venv\n")
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "PRE_COMMIT_HOME": str(root.parent / "pre_commit"),
            "SKIP": "check",  # no stages here; tests/pipeline/test_results.py has that hook
        }
        self.git("init", "-q", "-b", "main")
        self.commit("settings")

    def run(self, *command: str, status: int = 0) -> str:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    def git(self, *arguments: str, status: int = 0) -> str:
        return self.run("git", *AUTHOR, *arguments, status=status)

    def commit(self, message: str, status: int = 0) -> str:
        self.git("add", "-A")
        return self.git("commit", "-qm", message, status=status)

    def hook(self) -> None:
        self.run("make", *(f"--old-file={name}" for name in READY), "hook")

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text)

    def read(self, name: str) -> str:
        return (self.root / name).read_text()


@pytest.fixture
def clone(tmp_path) -> Clone:
    return Clone(tmp_path / "clone")


def test_every_hook_is_a_command_of_the_environment():
    [local] = HOOKS["repos"]
    assert local["repo"] == "local", "a repository elsewhere would need the network"
    for hook in local["hooks"]:
        assert hook["language"] == "system"
        command = hook["entry"].split()[0]
        assert command.startswith(".venv/bin/")
        assert Path(sys.prefix, "bin", Path(command).name).exists()
    [check] = [hook for hook in local["hooks"] if hook["id"] == "check"]
    assert check["entry"].endswith("-m pipeline.check --staged")
    assert check["always_run"]


GOOD = "x = 1\n"
FAULTS = {
    "ruff": ("bad.py", "import os\n"),
    "ruff-format": ("bad.py", "x=1\n"),
    "codespell": ("bad.md", "It is teh same.\n"),  # codespell:ignore teh
    "large-files": ("bad.txt", "a" * 501 * 1024),
    "merge-conflicts": ("bad.txt", "<" * 7 + " HEAD\na\n" + "=" * 7 + "\nb\n" + ">" * 7 + " x\n"),
}


def test_each_hook_refuses_what_it_is_for(clone):
    clone.hook()
    assert {*FAULTS, "check"} == {hook["id"] for hook in HOOKS["repos"][0]["hooks"]}
    for name, (path, text) in FAULTS.items():
        clone.write(path, text)
        said = clone.commit("bad", status=1)
        failed = [line.split()[-1] for line in said.splitlines() if line.startswith("- hook id: ")]
        assert failed == [name]
        clone.git("rm", "-qf", path)
    clone.write("good.py", GOOD)
    clone.commit("good")
    assert clone.git("log", "--format=%s").splitlines() == ["good", "settings"]


def test_make_hook_replaces_the_one_that_it_set_up_before_and_may_be_run_again(clone):
    clone.git("config", "core.hooksPath", ".githooks")
    clone.hook()
    clone.hook()
    clone.git("config", "core.hooksPath", status=1)
    clone.write("bad.py", "x=1\n")
    assert "ruff format" in clone.commit("bad", status=1)


def test_a_commit_from_before_the_configuration_can_be_made(clone):
    clone.hook()
    clone.git("rm", "-q", ".pre-commit-config.yaml")
    clone.commit("an old tree")


def two_branches(clone: Clone, files: dict[str, tuple[str, str, str]]) -> None:
    """Commit files as they were, as `main` has them and as the branch `theirs` has them."""
    for number, branch in enumerate((None, "theirs", "main")):
        if branch:
            clone.git("switch", "-qC", "theirs" if branch == "theirs" else "main", "base")
        for name, texts in files.items():
            clone.write(name, texts[(0, 2, 1)[number]])
        clone.commit(str(branch))
        if branch is None:
            clone.git("branch", "base")


def numbers(*values: int) -> str:
    return "".join(f"{value}\n" for value in values)


FIGURES = {"metrics/a.json": tuple(numbers(*v) for v in ((1, 2, 3), (9, 2, 3), (1, 2, 8)))}


def test_a_file_of_figures_is_one_runs_and_no_mixture(clone):
    clone.hook()
    two_branches(clone, FIGURES)
    clone.git("merge", "-q", "theirs", "-m", "merge")
    assert clone.read("metrics/a.json") == numbers(9, 2, 3)


def test_without_make_hook_git_mixes_the_lines_of_two_runs(clone):
    two_branches(clone, FIGURES)
    clone.git("merge", "-q", "theirs", "-m", "merge")
    assert clone.read("metrics/a.json") == numbers(9, 2, 8), "which make check would name"


@pytest.fixture
def stages(clone) -> Clone:
    """Two stages of DVC, each a copy of a file, both run."""
    clone.run("dvc", "init", "-q")
    copies = {
        name: {"cmd": f"cp in/{name} {name}", "deps": [f"in/{name}"], "outs": [name]}
        for name in ("one", "two")
    }
    clone.write("dvc.yaml", yaml.safe_dump({"stages": copies}))
    clone.write(".gitignore", "/.venv\n/one\n/two\n")
    repro(clone, one="1", two="1")
    clone.git("branch", "theirs")
    return clone


def repro(clone: Clone, **inputs: str) -> None:
    for name, text in inputs.items():
        clone.write(f"in/{name}", text)
    clone.run("dvc", "repro")
    clone.commit(f"ran {inputs}")


def test_stages_that_one_branch_ran_are_merged_and_up_to_date(stages):
    stages.hook()
    repro(stages, one="2")
    stages.git("switch", "-q", "theirs")
    repro(stages, two="2")
    stages.git("switch", "-q", "main")
    stages.git("merge", "-q", "theirs", "-m", "merge")
    stages.run("dvc", "checkout")
    assert "up to date" in stages.run("dvc", "status")
    assert stages.read("one") + stages.read("two") == "22"


def test_a_stage_that_both_branches_ran_is_dropped_and_comes_back_from_the_run_cache(stages):
    stages.hook()
    repro(stages, one="2")
    stages.git("switch", "-q", "theirs")
    repro(stages, one="3", two="3")
    stages.git("switch", "-q", "main")
    said = stages.git("merge", "theirs", status=1)
    assert "dvc.lock: both branches changed one; its entry" in said
    assert "CONFLICT (content): Merge conflict in in/one" in said
    assert "conflict in dvc.lock" not in said
    stages.git("checkout", "--theirs", "in/one")
    assert list(yaml.safe_load(stages.read("dvc.lock"))["stages"]) == ["two"]
    said = stages.run("dvc", "repro")
    assert "Stage 'one' is cached - skipping run, checking out outputs" in said
    assert "Running stage" not in said
    assert stages.read("one") + stages.read("two") == "33"


def test_without_make_hook_the_same_merge_is_a_conflict(stages):
    repro(stages, one="2")
    stages.git("switch", "-q", "theirs")
    repro(stages, one="3", two="3")
    stages.git("switch", "-q", "main")
    assert "conflict in dvc.lock" in stages.git("merge", "theirs", status=1)
