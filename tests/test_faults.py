"""docs/faults.md on a real disk of its own: it is filled, made read-only, and the runs on it are interrupted and killed."""

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from fault_table import pattern, rows, seen
from small_disk import MEGABYTE, SmallDisk
from test_pipeline import ENVIRONMENT, edit, micro_clone, outputs

from graph.instances import Instance, load_yaml, read_instances
from graph.rwlock import RWLOCK, remove_untrue
from graph.tree import WorkingTree

# Shorter than the micro profile's: what is learned is of no interest here.
SHORTER = (
    ("\nconditions: [baseline, mul_tokens]\n", "\nconditions: [mul_tokens]\n"),
    ("max_steps: 200\n  checkpoint_steps: [200]", "max_steps: 60\n  checkpoint_steps: [60]"),
    ("log_every: 50", "log_every: 10"),
    ("validate_every: 100", "validate_every: 20"),
    ("state_every: 50", "state_every: 10"),
    ("max_steps: 40", "max_steps: 20"),
    ("conversations: 320", "conversations: 160"),
    ("state_every: 20", "state_every: 10"),
    ("new_tokens: 24", "new_tokens: 8"),
    ("new_tokens: 12", "new_tokens: 4"),
)
STAGES = (
    "params", "fetch@ranks", "fetch@passages", "corpus", "items", "tokenize@mul_tokens", "pretrain@mul_tokens-1",
    "export@mul_tokens-1-60", "evaluate@mul_tokens-1-60", "problems", "sft@mul_tokens-1", "generate@mul_tokens-1",
    "gsm8k@mul_tokens-1", "probes@exports-mul_tokens-1", "compare", "curves", "report",
)  # fmt: skip
# Seconds of work each, and they keep nothing that a second run could go on from.
NOT_RUN_AGAIN = {"export", "evaluate", "generate", "probes"}


class Clone:
    """The micro graph of one condition, on a disk of its own."""

    def __init__(self, disk: SmallDisk):
        self.disk, self.root = disk, disk.root / "clone"
        self._inside = disk.mount_point / "clone"  # where the processes find it

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(
            self.disk.inside(list(command), self._inside), env=ENVIRONMENT, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def run(self, *command: str) -> tuple[int, str]:
        with self.start(*command) as process:
            said, _ = process.communicate()
        return process.returncode, said

    def done(self, *command: str) -> str:
        status, said = self.run(*command)
        assert status == 0, said
        return said

    def outputs(self) -> dict[str, bytes]:
        return outputs(self.root)

    def remove(self, instance: Instance) -> None:
        """As dvc does before it runs a stage."""
        for path in (self.root / out for out in instance.outputs):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def processes(self) -> list[int]:
        """Return those that work in the clone and have not ended."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "cwd") == str(self._inside):
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def hidden(self) -> list[str]:
        return [str(path.relative_to(self.root)) for kind in ("partial", "scratch") for path in self.root.rglob(f".*.{kind}")]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    disk = SmallDisk(tmp_path_factory.mktemp("disk"), 150)
    clone = Clone(disk)
    made = tmp_path_factory.mktemp("made")  # git asks for real paths
    micro_clone(made)
    shutil.copytree(made, clone.root, symlinks=True)
    for old, new in SHORTER:
        edit(clone.root / "params.yaml", old, new)
    clone.done("dvc", "repro")
    yield clone
    disk.close()


@pytest.fixture(scope="module")
def undisturbed(clone) -> dict[str, bytes]:
    return {**clone.outputs(), "plots/report.html": (clone.root / "plots/report.html").read_bytes()}


@pytest.fixture(autouse=True)
def whole(request):
    """Every test leaves the clone as it has found it."""
    yield
    if "clone" in request.fixturenames:
        clone = request.getfixturevalue("clone")
        clone.disk.free()
        assert clone.processes() == []


def instance(clone: Clone, name: str) -> Instance:
    return read_instances(WorkingTree(clone.root))[name]


def put_back(clone: Clone, bytes_of: dict[str, bytes]) -> None:
    for name, content in bytes_of.items():
        if not (clone.root / name).exists():
            (clone.root / name).parent.mkdir(parents=True, exist_ok=True)
            (clone.root / name).write_bytes(content)


def of_instance(one: Instance, found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: found[name] for name in found if any(name == out or name.startswith(f"{out}/") for out in one.outputs)}


def test_every_stage_is_tried_on_a_full_disk(clone):
    assert {name.split("@")[0] for name in STAGES} == {one.stage for one in read_instances(WorkingTree(clone.root)).values()}


@pytest.mark.parametrize("name", STAGES)
def test_a_full_disk_is_one_line_and_nothing_is_lost_or_half_there(clone, undisturbed, name):
    one = instance(clone, name)
    before, expected = clone.outputs(), of_instance(one, undisturbed)
    clone.remove(one)
    clone.disk.fill(left=sum(map(len, expected.values())) // 2)
    status, said = clone.run(*one.command.split())
    assert status == 1, said
    [line] = [line for line in said.splitlines() if "rror" in line]
    assert any(re.fullmatch(text, line) for fault in DISK_FULL for text in seen(fault, re.escape(name))), said
    after = clone.outputs()
    assert {path: before.get(path) for path in after} == after, "what is there is whole"
    assert {*before} - {*after} <= {*expected}
    assert not [path for path in clone.hidden() if not path.endswith(".scratch") and ".scratch/" not in path]
    clone.disk.free()
    if one.stage not in NOT_RUN_AGAIN:
        clone.done(*one.command.split())
        assert clone.hidden() == []
    put_back(clone, expected)
    assert clone.outputs() == before


DISK_FULL = ("the disk is full", "the disk is full, and the library does not say so (numpy, torch)")


@pytest.mark.parametrize("left", [110_000, 220_000, 330_000, 440_000])
def test_a_disk_that_fills_anywhere_in_a_state_is_the_same_line(clone, undisturbed, left):
    one = instance(clone, "sft@mul_tokens-1")
    clone.remove(one)
    clone.disk.fill(left)
    status, said = clone.run(*one.command.split())
    assert status == 1, said
    assert any(re.fullmatch(text, said.splitlines()[-1]) for fault in DISK_FULL for text in seen(fault, one.name)), said
    clone.disk.free()
    clone.done(*one.command.split())
    assert of_instance(one, clone.outputs()) == of_instance(one, undisturbed)
