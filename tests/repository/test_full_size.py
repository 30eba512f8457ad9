"""docs/full_size.md and docs/slurm: every command exists, the scripts are sound, the figures are
those that are computed.
"""

import re
import shutil
import subprocess
import sys

import pytest
import yaml
from repository import REPOSITORY

from model.params.all_sections import Params
from pipeline.declared.dvc_yaml import read_stages
from pipeline.declared.file_trees import WorkingTree
from tools import costs

TEXT = (REPOSITORY / "docs/full_size.md").read_text()
SCRIPTS = sorted((REPOSITORY / "docs/slurm").glob("*.sbatch"))
PROFILE = Params(**yaml.safe_load((REPOSITORY / costs.PROFILE).read_text()))


def commands(text: str) -> list[str]:
    """Return the commands of a script or block, each without its comment; several on a line are
    several.
    """
    lines = [
        re.sub(r"\s+#.*$", "", line)
        for line in text.splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return [command.strip() for line in lines for command in line.split("&&")]


def missing(command: str) -> str | None:
    """Return what a command names and the repository does not have, None where it has all."""
    words = command.split()
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    if words[0] == "make":
        found = words[1] in targets
    elif words[:2] == ["dvc", "repro"]:
        found = set(words[2:]) <= set(read_stages(WorkingTree(REPOSITORY)))
    elif words[:2] == ["python", "-m"]:
        found = (REPOSITORY / f"{words[2].replace('.', '/')}.py").is_file()
    elif words[0] in ("cp", "sbatch"):
        found = (REPOSITORY / words[1]).is_file()
    elif words[0] == "source":
        found = words[1] == ".venv/bin/activate"
    else:
        found = words[0] in ("git", "cd", "export", "mkdir", "set")
    return None if found else command


def blocks() -> list[str]:
    found = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    found += re.findall(
        r"```sh\n(.*?)```", (REPOSITORY / "docs/distributed.md").read_text(), flags=re.DOTALL
    )
    assert len(found) == 3
    return found


@pytest.mark.parametrize(
    "text", [*blocks(), *(path.read_text() for path in SCRIPTS)], ids=range(len(SCRIPTS) + 3)
)
def test_every_command_names_what_there_is(text):
    assert commands(text)
    assert [command for command in map(missing, commands(text)) if command] == []


@pytest.mark.parametrize(
    "command",
    [
        "make everything",
        "dvc repro tokens",
        "python -m tools.cost",
        "cp profiles/full.yaml params.yaml",
        "srun x",
    ],
)
def test_a_command_that_is_not_there_is_found(command):
    assert missing(command) == command


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_sound_shell_and_start_where_they_were_submitted(path):
    checks = [["bash", "-n", path], *([["shellcheck", path]] if shutil.which("shellcheck") else [])]
    for check in checks:
        done = subprocess.run(check, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert path.read_text().index("set -euo pipefail\n") < path.read_text().index(
        'cd "$SLURM_SUBMIT_DIR"\n'
    )


def test_the_scripts_ask_for_the_nodes_and_gpus_of_their_profile():
    asked = {
        path.name: dict(
            re.findall(r"^#SBATCH --(nodes|gpus-per-node)=(\d+)$", path.read_text(), re.M)
        )
        for path in SCRIPTS
    }
    gpus = str(PROFILE.pretrain.processes)
    assert asked == {
        "full_size.sbatch": {"nodes": str(PROFILE.pretrain.nodes), "gpus-per-node": gpus},
        "pretrain.sbatch": {"nodes": "2", "gpus-per-node": gpus},
    }


def test_the_computed_disk_and_arithmetic_are_those_in_the_text():
    shown = TEXT.split("<!-- output of python -m tools.costs -->\n")[1].split(
        "\n<!-- end of output -->"
    )[0]
    done = subprocess.run(
        [sys.executable, "-m", "tools.costs"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == shown + "\n"


def test_the_costs_are_of_gpt2s_own_size():
    parameters, _ = costs.parameters_and_operations(PROFILE)
    assert parameters == 124_475_904, "with a vocabulary of 50,304"
    by_stage = {cost.stage: cost.gigabytes for cost in costs.disk(PROFILE)}
    assert by_stage["pretrain"] == pytest.approx(2 * 9 * 4 * 124_475_904 / 1e9)
    assert by_stage["tokenize"] == pytest.approx(2 * (2 * 9_999_745_024 + 12 * 9_672_101) / 1e9)


def test_the_sums_of_dollars_are_right():
    hours, prices = 5.0, {"Lambda": 22.32, "AWS": 27.45}
    assert prices["Lambda"] == pytest.approx(8 * 2.79)
    section = TEXT.split("\n## Dollars\n")[1].split("\n## ")[0]
    numbers = set(re.findall(r"\d+(?:\.\d+)?", section))
    for price in prices.values():
        assert {f"{price:.2f}", f"{hours * price:.0f}", f"{3 * price:.0f}"} <= numbers


def test_make_repro_with_jobs_is_the_scheduler_and_without_is_dvc():
    said = {
        jobs: subprocess.run(
            ["make", "-n", "repro", *jobs], cwd=REPOSITORY, capture_output=True, text=True
        ).stdout.splitlines()
        for jobs in ((), ("JOBS=3",))
    }
    assert "python -m pipeline.dvc_support.repro" in said[()]
    assert [line for line in said[("JOBS=3",)] if line not in said[()]] == [
        "python -m pipeline.dvc_support.parallel 3"
    ]
