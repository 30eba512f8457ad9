"""Hold docs/first_full_size_run.md and docs/slurm: commands, scripts and computed figures."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import yaml
from repository import REPOSITORY

from model.params.all_sections import Params
from pipeline.declared.dvc_yaml import read_stages
from pipeline.declared.file_trees import WorkingTree
from tools import costs

TEXT = (REPOSITORY / "docs/first_full_size_run.md").read_text()
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
    words = shlex.split(command)
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE)
    if words[0] == "make":
        found = words[1] in targets
    elif words[:2] == ["dvc", "repro"]:
        found = set(words[2:]) <= set(read_stages(WorkingTree(REPOSITORY)))
    elif words[:3] == [".venv/bin/python", "-m", "dask"]:
        found = find_spec("dask") is not None
    elif words[0] == "srun":
        rest = [word for word in words[1:] if not word.startswith("--")]
        return None if rest and missing(" ".join(rest)) is None else command
    elif words[:2] == ["python", "-m"]:
        found = (REPOSITORY / f"{words[2].replace('.', '/')}.py").is_file()
    elif words[0] in ("cp", "sbatch"):
        found = (REPOSITORY / words[1]).is_file()
    elif words[0] == "source":
        found = words[1] == ".venv/bin/activate"
    else:
        found = words[0] in ("git", "cd", "export", "mkdir", "set", "trap") or "=" in words[0]
    return None if found else command


def blocks() -> list[str]:
    found = re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    operations = (REPOSITORY / "docs/operations.md").read_text()
    section = operations.split("\n## Several processes of one stage\n")[1].split("\n## ")[0]
    found += re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    assert len(found) == 4
    return found


@pytest.mark.parametrize(
    "text", [*blocks(), *(path.read_text() for path in SCRIPTS)], ids=range(len(SCRIPTS) + 4)
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
        "cluster.sbatch": {"nodes": "4", "gpus-per-node": gpus},
        "full_size.sbatch": {"nodes": str(PROFILE.pretrain.nodes), "gpus-per-node": gpus},
        "pretrain.sbatch": {"nodes": "2", "gpus-per-node": gpus},
    }


@pytest.mark.parametrize("command", ["tools.costs", "tools.costs --sizes"])
def test_the_computed_disk_and_arithmetic_are_those_in_the_text(command):
    shown = TEXT.split(f"<!-- output of python -m {command} -->\n")[1].split(
        "\n<!-- end of output -->"
    )[0]
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
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


def test_a_hundred_times_the_tokens_need_what_is_measured_for_each():
    """By hand: 10¹² tokens of 4.7 bytes, 1,024 cores, and 64 A100 for two conditions."""
    row = [cell.strip() for cell in costs.sizes(PROFILE).splitlines()[-1].strip("|").split("|")]
    assert row[0] == "1,000 B"
    corpus, tokenize, pretrain = float(row[4]), float(row[5]), float(row[8])
    assert corpus == pytest.approx(4.7e12 / (3.5e6 * 1024) / 60, abs=0.5)
    assert tokenize == pytest.approx(2 * 4.7e12 / (5.1e6 * 1024) / 60, abs=0.5)
    assert pretrain == pytest.approx(2 * 8.55e20 / (0.4 * 312e12 * 64) / 3600, abs=0.6)
    dollars = float(row[-1].replace(",", ""))
    assert dollars == pytest.approx(
        22.32 * 8 * pretrain + 3 * 16 * (corpus + tokenize) / 60, rel=0.01
    )


def test_the_peak_has_dvcs_copy_and_the_scratch_of_one_stage():
    names = {"a": 10, "b, scratch": 100, "c": 1, "d, scratch": 5}
    found = costs.kept_and_peak([costs.Cost(name, size, "") for name, size in names.items()])
    assert found == (11, 120)
    assert costs.kept_and_peak([costs.Cost("a", 10, ""), costs.Cost("a, scratch", 1, "")])[1] == 21


def test_the_sums_of_dollars_are_right():
    hours, prices = 5.0, {"Lambda": 22.32, "AWS": 27.45}
    assert prices["Lambda"] == pytest.approx(8 * 2.79)
    section = TEXT.split("\n## Dollars\n")[1].split("\n## ")[0]
    numbers = set(re.findall(r"\d+(?:\.\d+)?", section))
    for price in prices.values():
        assert {f"{price:.2f}", f"{hours * price:.0f}", f"{3 * price:.0f}"} <= numbers
