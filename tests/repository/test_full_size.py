"""Hold docs/first_full_size_run.md and docs/slurm: commands, scripts and computed figures."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from repository import REPOSITORY

from model.params.all_sections import Params
from pipeline.declared.dvc_yaml import read_instances, read_stages
from pipeline.declared.file_trees import WorkingTree
from tools import costs, machine_limits
from tools.repository_copy import copy_repository

TEXT = (REPOSITORY / "docs/first_full_size_run.md").read_text()
SCRIPTS = sorted((REPOSITORY / "docs/slurm").glob("*.sbatch"))
PROFILE = Params(**yaml.safe_load((REPOSITORY / costs.PROFILE).read_text()))


NEVER_RUN = "(never run here)"
# The test that runs each command of the tutorial's other sections, and what there is of it in it.
RUN_BY = {
    "make setup": (".ci/long", "make setup"),
    "make dry-run": ("tests/long/test_dry_run.py", '"-m", "tools.dry_run"]'),
}
_SHELL = ("bash", "cd", "export", "git", "mkdir", "rm", "sed", "set", "trap")


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
        found = words[0] in _SHELL or "=" in words[0]
    return None if found else command


def shell_blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def sections(text: str) -> dict[str, list[str]]:
    """Return the shell blocks of each `##` section, by its title."""
    parts = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    return {part.split("\n")[0]: found for part in parts if (found := shell_blocks(part))}


OPERATIONS = sections((REPOSITORY / "docs/operations.md").read_text())
BLOCKS = [
    *(block for found in sections(TEXT).values() for block in found),
    *OPERATIONS["Several processes of one stage"],
    *(path.read_text() for path in SCRIPTS),
]


@pytest.mark.parametrize("text", BLOCKS, ids=range(len(BLOCKS)))
def test_every_command_names_what_there_is(text):
    assert commands(text)
    assert [command for command in map(missing, commands(text)) if command] == []


def unrun(text: str) -> list[str]:
    """Return the commands of a tutorial that nothing runs, outside the section of such commands."""
    found = []
    for title, blocks in sections(text).items():
        if not title.endswith(NEVER_RUN):
            found += [command for block in blocks for command in commands(block)]
    return [command for command in found if command not in RUN_BY | dict.fromkeys(run_here())]


def run_here() -> list[str]:
    """Return the commands that the test below runs as they stand in the tutorial."""
    titles = ("1. Check the plan", "3. Choose where to run")
    return [
        command
        for title in titles
        for block in sections(TEXT)[title]
        for command in commands(block)
        if command not in RUN_BY
    ]


def test_every_command_of_the_tutorial_is_run_by_a_test_or_marked_as_never_run():
    assert unrun(TEXT) == []
    assert [title for title in sections(TEXT) if title.endswith(NEVER_RUN)] == [
        f"4. Run {NEVER_RUN}"
    ]
    for file, text in RUN_BY.values():
        assert text in (REPOSITORY / file).read_text()


def test_a_command_of_the_tutorial_that_nothing_runs_would_be_seen():
    text = f"## A\n\n```sh\nmake setup\ndvc repro\n```\n\n## B {NEVER_RUN}\n\n```sh\nx\n```\n"
    assert unrun(text) == ["dvc repro"]


def test_the_keys_that_the_tutorial_sets_to_cpu_are_of_no_stage_that_prepares_data():
    [line] = [command for command in run_here() if command.startswith("sed -i ")]
    assert re.findall(r"s/(\w+): ", line) == ["device", "dtype", "processes"]
    document = yaml.safe_load((REPOSITORY / costs.PROFILE).read_text())
    changed = {
        name
        for name, section in document.items()
        if isinstance(section, dict) and {"device", "dtype", "processes"} & section.keys()
    }
    assert changed == {"pretrain", "evaluate", "samples", "sft", "generate", "probes"}
    instances = read_instances(WorkingTree(REPOSITORY)).values()
    data = {"fetch", "corpus", "items", "tokenize", "problems"}
    keys = {key for one in instances if one.stage in data for key in one.params["params.yaml"]}
    assert not changed & {key.split(".")[0] for key in keys}


def run_as_in_the_tutorial(folder: Path, source: Path) -> dict[str, str]:
    """Run the commands of `run_here` in one shell; return what each printed.

    `source` takes the place of REPOSITORY, and this environment that of `make setup`.
    """
    script = []
    for command in run_here():
        here = command.replace("REPOSITORY", str(source)).replace(
            "make ", "make --old-file=.venv/.ready "
        )
        script += [f"echo {shlex.quote(f'$ {command}')}", here]
        if command.startswith("cd "):
            script.append(f"ln -s {sys.prefix} .venv")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    parts = re.split(r"^\$ (.*)\n", done.stdout, flags=re.MULTILINE)[1:]
    # python -m stages.params stands there twice.
    found: dict[str, str] = {}
    for command, printed in zip(parts[::2], parts[1::2], strict=True):
        found[command + " again" * (command in found)] = printed
    return found


@pytest.mark.slow("copies the repository and checks the full-size profile twice", minutes=1)
def test_the_tutorials_commands_for_a_machine_without_gpus_print_what_it_says(tmp_path):
    source = tmp_path / "source"
    copy_repository(REPOSITORY, source)
    author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["add", "--all"], [*author, "commit", "--quiet", "--message", "x"]):
        subprocess.run(["git", *command], cwd=source, check=True)
    printed = run_as_in_the_tutorial(tmp_path, source)
    assert "prune: removed" in printed["YES=1 make prune"]
    for command in ("tools.costs params.yaml", "tools.costs --sizes"):
        assert printed[f"python -m {command}"].strip() in TEXT
    valid = "params: 2 conditions, 1 seeds\n"
    assert printed["python -m stages.params again"] == valid
    assert f"# {valid}" in TEXT
    if machine_limits.cuda_problem(PROFILE.pretrain.processes, PROFILE.pretrain.dtype) is None:
        assert printed["python -m stages.params"] == valid
    else:
        lines = printed["python -m stages.params"].splitlines()
        assert lines[0].startswith("error: params.yaml: pretrain.")
        assert all(line.startswith("error: params.yaml: ") for line in lines)
    [shown] = re.findall(r"^error: params.yaml: (.*): the installed torch", TEXT, re.MULTILINE)
    assert shown == "pretrain.device: cuda"


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


def test_the_workers_of_kubernetes_start_dask_with_the_certificate_as_a_secret():
    text = (REPOSITORY / "docs/kubernetes/workers.yaml").read_text()
    workers = yaml.safe_load(text)
    pod = workers["spec"]["template"]["spec"]
    [container], [volume] = pod["containers"], pod["volumes"]
    assert missing(" ".join(container["command"])) is None
    [variable], [mount] = container["env"], container["volumeMounts"]
    assert variable == {"name": "DASK_CONFIG", "value": mount["mountPath"]}
    assert mount["name"] == volume["name"]
    assert f"create secret generic {volume['secret']['secretName']} " in text


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


def test_what_to_expect_is_what_is_computed():
    expected = dict(
        re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", TEXT.split("\n## ")[0], flags=re.MULTILINE)
    )
    parameters, _ = costs.parameters_and_operations(PROFILE)
    tokens = costs.tokens_trained_on(PROFILE)
    assert expected["network, tokens"].startswith(f"{parameters:,} parameters; {tokens:,} tokens")
    disk = costs.disk(PROFILE)
    kept, peak = costs.kept_and_peak(disk)
    assert disk[-1].stage == "sft, scratch"
    shared = kept + disk[-1].gigabytes
    assert expected["disk"].startswith(f"{peak:.0f} GB; {shared:.0f} GB where the disk shares")
    row = [cell.strip() for cell in costs.sizes(PROFILE).splitlines()[2].strip("|").split("|")]
    corpus, tokenize, hours = row[4], row[5], row[8]
    assert f"{corpus} minutes `corpus`, {tokenize} minutes" in expected["data, on 64 cores"]
    assert expected["pretraining, 8 × A100"] == f"{hours} hours for both conditions"
    assert f"**{expected['pretraining, dollars']} dollars**" in TEXT


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
