"""Run the commands of "Experiments and branches" in docs/operations.md, on the micro profile.

Each test checks what its recipe leaves behind.
"""

import contextlib
import os
import re
import signal
import time
from pathlib import Path

import pytest
from conditions import named, set_conditions
from dvc.utils.hydra import apply_overrides
from micro_graph import changed, micro_clone, outputs, repro, shell
from repository import REPOSITORY

from pipeline.check import check
from pipeline.declared.dvc_yaml import load_yaml, read_instances, value_or_none
from pipeline.declared.file_trees import WorkingTree

pytestmark = pytest.mark.slow("dvc runs experiments: each is a whole micro graph", minutes=4)

TEXT = (REPOSITORY / "docs/operations.md").read_text()


def commands(title: str) -> list[str]:
    """Return the commands of the section of that title, in order."""
    section = TEXT.split(f"### {title}\n")[1].split("\n### ")[0]
    return re.findall(r"^\$ (.*?)(?:\s+#.*)?$", section, flags=re.MULTILINE)


def started_here(clone: Path) -> list[int]:
    """Return the processes whose command or working directory is in the clone."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or another user's
            words = (process / "cmdline").read_bytes().decode(errors="replace")
            if str(clone) in words or os.readlink(process / "cwd").startswith(str(clone)):
                found.append(int(process.name))
    return found


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The micro graph of one condition, regenerated and committed."""
    directory = tmp_path_factory.mktemp("experiments") / "clone"
    micro_clone(directory)
    set_conditions(directory / "params.yaml", named("mul_tokens"))
    for name in ("user.name", "user.email"):
        shell(["git", "config", name, "t@example.org"], directory)
    assert "curves" in repro(directory)
    shell(["git", "add", "-A"], directory)
    shell(["git", "commit", "-qm", "results"], directory)
    yield directory
    for number in started_here(
        directory
    ):  # only after a failure: a worker of the queue ends by itself
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def run_all(clone: Path, lines: list[str], may_fail: tuple[str, ...] = ()) -> dict[str, str]:
    said = {}
    for line in lines:
        said[line] = shell(["bash", "-c", line], clone, check=line not in may_fail)
        if line == "dvc queue start":
            wait_for_the_queue(clone)
    return said


def wait_for_the_queue(clone: Path) -> None:
    limit = time.monotonic() + 600
    while re.search("Running|Queued", status := shell(["dvc", "queue", "status"], clone)):
        assert time.monotonic() < limit, status
        time.sleep(5)


def wait_for_the_worker(clone: Path) -> None:
    """A worker without work ends by itself, after some seconds."""
    limit = time.monotonic() + 120
    while left := started_here(clone):
        assert time.monotonic() < limit, f"processes {left} do not end"
        time.sleep(1)


def of_main(clone: Path, before: dict[str, bytes]) -> bool:
    """Return whether the tree is main's again: bytes, declarations, nothing to run and nothing to
    commit.
    """
    assert shell(["git", "branch", "--show-current"], clone) == "main\n"
    assert shell(["git", "status", "--short"], clone) == ""
    assert changed(clone) == set()
    assert check(WorkingTree(clone)) == []
    return outputs(clone) == before


def started(said: str) -> set[str]:
    """Return the instances that `make repro` has run."""
    return set(re.findall(r"^start +(\S+)$", said, flags=re.MULTILINE))


def test_the_recipe_of_a_branch(clone):
    before = outputs(clone)
    said = run_all(clone, commands("A branch"))
    [impact, remade, compared] = [said[name] for name in ("make impact", "make repro", "make diff")]
    assert "generate: params.yaml: generate has changed in new_tokens" in impact
    ran = {name.split("@")[0] for name in started(remade)}
    assert ran >= {"params", "generate", "gsm8k"}
    assert not ran & {"corpus", "pretrain", "export", "evaluate", "sft", "probes"}
    assert "check: " in remade
    assert re.search(r"params.yaml +generate.new_tokens +24 +20\n", compared)
    assert of_main(clone, before)
    assert shell(["git", "branch", "--list", "short-answers"], clone) == ""


def test_the_recipe_of_the_queue(clone):
    before = outputs(clone)
    said = run_all(clone, commands("A queue"))
    status, log, table = (
        said[name] for name in ("dvc queue status", "dvc queue logs none", "make experiments")
    )
    assert re.search("none .* Failed *\n", status)
    assert len(re.findall("twenty.* Success *\n", status)) == 2
    assert "error: params.yaml: generate.new_tokens: Input should be greater than 0, got 0" in log
    names = next(line for line in table.splitlines() if "Experiment" in line).split()
    assert {"Experiment", "State", "generate.new_tokens"} <= set(names)
    assert not [name for name in names if "/" in name], "no hashes"
    assert re.search(r"params.yaml +generate.new_tokens +20 +24\n", said["make diff REV=twenty"])
    assert of_main(clone, before)


def test_the_recipe_of_an_experiment_that_is_kept_and_of_throwing_it_away(clone):
    before = outputs(clone)
    kept = run_all(clone, commands("Keeping one"))
    again = started(kept["make repro"])
    assert {"curves"} <= again <= {"params", "compare", "curves", "contents", "report"}, (
        "another layout of params.yaml, and what git keeps in place of DVC"
    )
    assert "check: " in kept["make repro"]
    [line] = shell(["git", "diff", "--unified=0", "main", "--", "params.yaml"], clone).splitlines()[
        6:
    ]
    assert line == "+  new_tokens: 20"
    run_all(clone, commands("Throwing away"))
    assert of_main(clone, before)
    assert shell(["git", "branch", "--format=%(refname:short)"], clone) == "main\n"
    assert shell(["dvc", "exp", "list", "--name-only"], clone) == ""
    assert not re.search("Success|Failed", shell(["dvc", "queue", "status"], clone))
    wait_for_the_worker(clone)
    assert not list((clone / ".dvc/tmp/exps").glob("tmp*")), "copies are removed"


def test_an_experiment_in_the_working_tree_is_undone_by_the_commands_of_docs(clone):
    before = outputs(clone)
    shell(["dvc", "exp", "run", "--name", "here", "-S", "generate.new_tokens=20"], clone)
    assert load_yaml((clone / "params.yaml").read_bytes())["generate"]["new_tokens"] == 20
    shell(["bash", "-c", commands("Throwing away")[0]], clone)
    assert of_main(clone, before)
    assert shell(["dvc", "exp", "remove", "here"], clone)


def test_the_table_of_experiments_has_no_column_of_a_file():
    [noise] = re.findall("--drop '(.*)'", shell(["make", "--dry-run", "experiments"], REPOSITORY))
    instances = read_instances(WorkingTree(REPOSITORY)).values()
    for path in {path for instance in instances for path in (*instance.deps, *instance.outputs)}:
        assert re.match(noise, path), f"{path}: add it to NOISE of Makefile"
    params = load_yaml((REPOSITORY / "params.yaml").read_bytes())
    for key in {key for instance in instances for keys in instance.params.values() for key in keys}:
        column = (
            f"{key}.x" if isinstance(value_or_none(params, key), dict) else key
        )  # a section has a column for each value
        assert not re.match(noise, column), f"{column}: NOISE of Makefile hides this parameter"
    assert not re.match(noise, "pretrained.continuation_acc_norm.mul_tokens_difference")


@pytest.mark.parametrize(
    "path", [Path("params.yaml"), *sorted(Path("profiles").glob("*.yaml"))], ids=str
)
def test_dvc_sets_a_parameter_and_changes_no_other_and_no_comment(path, tmp_path):
    ours, written = (REPOSITORY / path).read_text(), tmp_path / "params.yaml"
    written.write_text(ours)
    apply_overrides(
        written,
        [
            "generate.new_tokens=20",
            "pretrain.learning_rate=1e-3",
            "seeds=[1,2]",
            "conditions.mul_tokens.tokenize.mul_facts=false",
            "+conditions.mul_tokens.pretrain.learning_rate=1e-3",
        ],
    )
    expected = load_yaml(ours.encode())
    expected["generate"]["new_tokens"], expected["pretrain"]["learning_rate"], expected["seeds"] = (
        20,
        0.001,
        [1, 2],
    )
    expected["conditions"]["mul_tokens"] |= {
        "tokenize": {"mul_facts": False},
        "pretrain": {"learning_rate": 0.001},
    }
    assert load_yaml(written.read_bytes()) == expected
    assert re.findall("#.*", written.read_text()) == re.findall("#.*", ours)
