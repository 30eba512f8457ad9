"""Interrupt and kill runs, fill their disk, make it read-only: they resume (docs/operations.md)."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path

import pytest
import yaml
from conditions import named, set_conditions
from fault_table import seen
from micro_graph import ENVIRONMENT, edit, micro_clone, outputs
from repository import REPOSITORY
from signals import as_in_a_terminal
from small_disk import Folder, SmallDisk

from pipeline.declared.dvc_yaml import Instance, read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.dvc_support.cache import CACHE
from pipeline.dvc_support.rwlock import RWLOCK, remove_untrue

pytestmark = pytest.mark.slow(
    "stages are killed, their disk is filled, and the graph goes on", minutes=5
)

# Shorter than the micro profile's: what is learned is of no interest here.
SHORTER = (
    ("max_steps: 200\n  checkpoint_steps: [200]", "max_steps: 60\n  checkpoint_steps: [60]"),
    ("log_every: 50", "log_every: 10"),
    ("validate_every: 100", "validate_every: 20"),
    ("state_every: 50", "state_every: 10"),
    ("max_steps: 40", "max_steps: 20"),
    ("conversations: 320", "conversations: 160"),
    ("state_every: 20", "state_every: 10"),
    ("new_tokens: 24", "new_tokens: 8"),
    ("new_tokens: 12", "new_tokens: 4"),
    ("new_tokens: 16", "new_tokens: 4"),
)
STAGES = (
    "params",
    "fetch@ranks",
    "fetch@passages",
    "corpus",
    "items",
    "tokenize@mul_tokens",
    "pretrain@mul_tokens-1",
    "export@mul_tokens-1-60",
    "evaluate@mul_tokens-1-60",
    "samples@mul_tokens-1-60",
    "problems",
    "sft@mul_tokens-1",
    "generate@mul_tokens-1",
    "gsm8k@mul_tokens-1",
    "probes@exports-mul_tokens-1",
    "compare",
    "curves",
    "contents",
    "report",
)
# Seconds of work each, and they keep nothing that a second run could go on from.
NOT_RUN_AGAIN = {"export", "evaluate", "samples", "generate", "probes"}


class Clone:
    """The micro graph of one condition, in a folder or on a disk of its own."""

    def __init__(self, disk: Folder):
        self.disk, self.root = disk, disk.root / "clone"
        self._inside = disk.mount_point / "clone"  # where the processes find it

    def start(self, *command: str) -> subprocess.Popen:
        return subprocess.Popen(
            self.disk.inside(list(command), self._inside),
            env=ENVIRONMENT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=as_in_a_terminal,
        )

    def run(self, *command: str) -> tuple[int, str]:
        with self.start(*command) as process:
            said, _ = process.communicate()
        return process.returncode, said

    def done(self, *command: str) -> str:
        status, said = self.run(*command)
        assert status == 0, said
        return said

    def outputs(self) -> dict[str, bytes]:
        """Return what stages have written, without what a killed or failed one would go on from."""
        return {
            name: content for name, content in outputs(self.root).items() if ".scratch/" not in name
        }

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
        return [
            str(path.relative_to(self.root))
            for kind in ("partial", "scratch")
            for path in self.root.rglob(f".*.{kind}")
        ]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    clone = Clone(Folder(tmp_path_factory.mktemp("folder")))
    clone.root.mkdir()
    micro_clone(clone.root)
    set_conditions(clone.root / "params.yaml", named("mul_tokens"))
    for old, new in SHORTER:
        edit(clone.root / "params.yaml", old, new)
    clone.done("dvc", "repro")
    return clone


@pytest.fixture(scope="module")
def undisturbed(clone) -> dict[str, bytes]:
    return {**clone.outputs(), "plots/report.html": (clone.root / "plots/report.html").read_bytes()}


@pytest.fixture(scope="module")
def small(clone, undisturbed, tmp_path_factory):
    """The same on a small disk, in a copy, for git asks for real paths when a clone is made."""
    small = Clone(SmallDisk(tmp_path_factory.mktemp("disk"), 150))
    shutil.copytree(clone.root, small.root, symlinks=True)
    assert "Running stage" not in small.done("dvc", "repro")
    yield small
    small.disk.close()


@pytest.fixture(autouse=True)
def whole(request):
    """After a test that has failed the next one finds what this one has found."""
    yield
    made = request.node.funcargs  # not one that was skipped
    if "undisturbed" not in made:
        return
    if "small" in made:
        made["small"].disk.free()
    for used in (made[name] for name in ("clone", "small") if name in made):
        put_back(used, made["undisturbed"])
        assert used.processes() == []


def instance(clone: Clone, name: str) -> Instance:
    return read_instances(WorkingTree(clone.root))[name]


def put_back(clone: Clone, bytes_of: dict[str, bytes]) -> None:
    for path, content in ((clone.root / name, content) for name, content in bytes_of.items()):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def of_instance(one: Instance, found: dict[str, bytes]) -> dict[str, bytes]:
    return {
        name: found[name]
        for name in found
        if any(name == out or name.startswith(f"{out}/") for out in one.outputs)
    }


def test_every_stage_is_tried_on_a_full_disk(clone):
    assert {name.split("@")[0] for name in STAGES} == {
        one.stage for one in read_instances(WorkingTree(clone.root)).values()
    }


@pytest.mark.parametrize("name", STAGES)
def test_a_full_disk_is_one_line_and_nothing_is_lost_or_half_there(small, undisturbed, name):
    one = instance(small, name)
    before, expected = small.outputs(), of_instance(one, undisturbed)
    small.remove(one)
    small.disk.fill(left=sum(map(len, expected.values())) // 2)
    status, said = small.run(*one.command.split())
    assert status == 1, said
    [line] = [line for line in said.splitlines() if "rror" in line]
    assert any(
        re.fullmatch(text, line) for fault in DISK_FULL for text in seen(fault, re.escape(name))
    ), said
    after = small.outputs()
    assert {path: before.get(path) for path in after} == after, "what is there is whole"
    assert {*before} - {*after} <= {*expected}
    assert not [
        path for path in small.hidden() if not path.endswith(".scratch") and ".scratch/" not in path
    ]
    small.disk.free()
    if one.stage not in NOT_RUN_AGAIN:
        small.done(*one.command.split())
        assert small.hidden() == []
    put_back(small, expected)
    assert small.outputs() == before


DISK_FULL = ("the disk is full", "the disk is full, but numpy or torch hides the cause")


@pytest.mark.parametrize("left", [220_000, 330_000])
def test_a_disk_that_fills_anywhere_in_a_state_is_the_same_line(small, undisturbed, left):
    one = instance(small, "sft@mul_tokens-1")
    small.remove(one)
    small.disk.fill(left)
    status, said = small.run(*one.command.split())
    assert status == 1, said
    assert any(
        re.fullmatch(text, said.splitlines()[-1])
        for fault in DISK_FULL
        for text in seen(fault, one.name)
    ), said
    small.disk.free()
    small.done(*one.command.split())
    assert of_instance(one, small.outputs()) == of_instance(one, undisturbed)


@pytest.fixture
def dvc(clone):
    """Starts a dvc that trains, in a way that no run in its cache has, and returns it once it has
    written a state.
    """
    started = []

    def start() -> subprocess.Popen:
        scratch = clone.root / "checkpoints/mul_tokens/.seed_1.scratch"
        started.append(clone.start("dvc", "repro", "--force", "--single-item", "pretrain"))
        while not glob("*/states/step_*/SHA256SUMS", root_dir=scratch):
            assert started[-1].poll() is None, started[-1].communicate()[0]
            time.sleep(0.01)
        return started[-1]

    yield start
    for process in started:
        with process:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def wait_until_all_have_ended(clone: Clone) -> None:
    deadline = time.monotonic() + 60
    while clone.processes():
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.01)


def test_a_second_dvc_is_refused_and_a_killed_one_takes_its_stage_along_and_goes_on(
    clone, undisturbed, dvc
):
    first = dvc()
    os.killpg(first.pid, signal.SIGSTOP)  # or it is done before the second has given up
    status, said = clone.run("dvc", "repro", "--force", "--single-item", "tokenize@mul_tokens")
    assert status != 0
    [busy] = seen("a second `dvc repro` or `make repro` while one runs", "tokenize@mul_tokens")
    assert re.search(busy, said), said
    assert first.poll() is None
    first.kill()
    os.killpg(first.pid, signal.SIGCONT)
    first.communicate()
    wait_until_all_have_ended(clone)
    said = clone.done("dvc", "repro", "--force", "--single-item", "pretrain")
    assert re.search(seen("dvc is killed, by SIGTERM or SIGKILL")[0], said), said
    assert "resumes from step" in said
    assert clone.outputs() == outputs_of(undisturbed)
    assert clone.hidden() == []


def test_a_stage_that_dvc_does_not_run_outlives_who_has_started_it(clone, undisturbed):
    """Whoever starts one in a terminal may close that; dvc, with which it would end, says who it is
    in the environment.
    """
    command = ["python", "-m", "stages.probes", "exports", "mul_tokens", "1"]
    script = f"import subprocess as s; s.Popen({command!r}, stdout=s.DEVNULL, stderr=s.DEVNULL)"
    clone.done("env", "-u", "DVC_STAGE", "python", "-c", script)
    while not (clone.root / "scores/mul_tokens/seed_1/probes/.exports.partial").exists():
        assert clone.processes()
        time.sleep(0.01)
    assert clone.processes(), "past the place where it would have ended"
    wait_until_all_have_ended(clone)
    assert clone.outputs() == outputs_of(undisturbed)


def test_ctrl_c_in_a_terminal_is_a_line_each_and_the_next_run_goes_on(clone, undisturbed, dvc):
    first = dvc()
    os.killpg(first.pid, signal.SIGINT)
    said, _ = first.communicate()
    assert first.returncode != 0
    name = "pretrain@mul_tokens-1"
    of_stage, of_dvc = seen("Ctrl-C (SIGINT)", name)[0], seen("Ctrl-C in a terminal", name)[0]
    assert re.search(f"{of_stage}\n{of_dvc}\n", said), said
    assert "Traceback" not in said
    said = clone.done("dvc", "repro", "--force", "--single-item", "pretrain")
    assert "resumes from step" in said
    assert clone.outputs() == outputs_of(undisturbed)


def outputs_of(undisturbed: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in undisturbed.items() if name != "plots/report.html"}


def test_a_terminated_stage_leaves_no_output_and_the_next_run_goes_on(clone, undisturbed, dvc):
    first = dvc()
    [stage] = [process for process in clone.processes() if parent_of(process) == first.pid]
    os.kill(stage, signal.SIGTERM)
    said, _ = first.communicate()
    assert first.returncode != 0
    assert re.search(seen("SIGTERM, SIGKILL")[0], said), said
    wait_until_all_have_ended(clone)
    one = instance(clone, "pretrain@mul_tokens-1")
    assert of_instance(one, clone.outputs()) == {}
    assert "resumes from step" in clone.done(*one.command.split())
    assert clone.outputs() == outputs_of(undisturbed)


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_dvc_on_a_full_disk_can_be_run_again_with_one_command(small, undisturbed):
    one = instance(small, "gsm8k@mul_tokens-1")
    small.remove(one)
    (small.root / RWLOCK).unlink(missing_ok=True)
    small.disk.fill(left=0)
    no_space, unreadable = seen("the disk is full when dvc writes")
    status, said = small.run("dvc", "repro", "--single-item", one.name)
    assert status != 0
    assert re.search(no_space, said), said
    small.disk.free()
    status, said = small.run("dvc", "repro", "--single-item", one.name)
    assert status != 0, "this is what the note of a full disk does"
    assert re.search(unreadable, said), said
    assert "it is not whole" in small.done("python", "-m", "pipeline.dvc_support.rwlock")
    small.done("dvc", "repro", "--single-item", one.name)
    assert small.outputs() == outputs_of(undisturbed)


def test_a_note_that_names_another_program_is_removed_and_that_of_a_dvc_is_not(tmp_path):
    (tmp_path / RWLOCK).parent.mkdir(parents=True)
    command = ["python", "-c", "import sys; sys.stdin.read()"]
    for word, removed in (("another", True), ("dvc", False), ("pipeline.driver", False)):
        with subprocess.Popen([*command, word], stdin=subprocess.PIPE) as process:
            holder = {"pid": process.pid, "cmd": "dvc repro"}
            (tmp_path / RWLOCK).write_text(
                json.dumps({"read": {"a": [holder]}, "write": {"b": holder}})
            )
            assert (remove_untrue(tmp_path) is not None) == removed
            assert (tmp_path / RWLOCK).exists() != removed
    assert "nothing that it names is running" in remove_untrue(tmp_path), "it has ended"
    assert remove_untrue(tmp_path) is None
    (tmp_path / RWLOCK).write_text("{}")
    assert remove_untrue(tmp_path) is None, "nobody is named"


def test_dvcs_own_words_for_a_note_that_names_another_program(clone):
    one = instance(clone, "gsm8k@mul_tokens-1")
    holder = {"pid": os.getpid(), "cmd": "dvc repro"}
    path = str(clone.disk.mount_point / "clone" / one.outs[0])
    (clone.root / RWLOCK).write_text(json.dumps({"write": {path: holder}}))
    status, said = clone.run("dvc", "repro", "--force", "--single-item", one.name)
    assert status != 0
    assert re.search(
        seen("the rwlock of a killed dvc names a process number that another program has now")[0],
        said,
    ), said
    (clone.root / RWLOCK).unlink()


def test_a_lock_file_that_is_cut_short_costs_no_stage(clone, undisturbed):
    lock = clone.root / "dvc.lock"
    whole = lock.read_bytes()
    lock.write_bytes(b"")
    status, said = clone.run("dvc", "repro")
    assert status != 0
    assert re.search(seen("`dvc.lock` is cut short")[0], said), said
    lock.unlink()
    executed = re.findall("Running stage '([^'@]+)", clone.done("dvc", "repro"))
    cheap = {"params", "fetch", "compare", "curves", "contents"}
    assert {*executed} <= cheap, "only what costs seconds, or is in git and not in the cache"
    assert clone.outputs() == outputs_of(undisturbed)
    assert yaml.safe_load(lock.read_bytes()) == yaml.safe_load(whole)


def test_a_rotten_object_of_the_cache_is_found_by_its_reader_and_removed(clone, undisturbed):
    one, reader = (
        instance(clone, name) for name in ("generate@mul_tokens-1", "gsm8k@mul_tokens-1")
    )
    name = f"{one.outs[0]}/generated.jsonl"
    content = undisturbed[name]
    md5 = hashlib.md5(content).hexdigest()
    rotten = clone.root / ".dvc/cache" / CACHE / md5[:2] / md5[2:]
    times = rotten.stat()
    rotten.chmod(0o644)
    rotten.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    rotten.chmod(0o444)
    os.utime(
        rotten, ns=(times.st_atime_ns, times.st_mtime_ns)
    )  # as a disk does it, and DVC does not see it
    [message] = seen("an object of `.dvc/cache` is damaged")
    for _ in range(2):
        clone.remove(one)
        clone.done("dvc", "repro", "--single-item", one.name)
        status, said = clone.run(*reader.command.split())
        assert status == 1
        assert re.search(message, said), said
    said = clone.done("python", "-m", "pipeline.dvc_support.cache")
    assert f"removed: {rotten.relative_to(clone.root)}" in said
    assert " 1 were rotten" in said
    assert f"Running stage '{one.name}'" in clone.done("dvc", "repro", "--single-item", one.name)
    assert " 0 were rotten" in clone.done("python", "-m", "pipeline.dvc_support.cache")
    assert clone.outputs() == outputs_of(undisturbed)


@contextmanager
def mounted_read_only(clone: Clone, folder: str) -> Iterator[None]:
    clone.done("mount", "--bind", folder, folder)
    clone.done("mount", "-o", "remount,bind,ro", folder)
    yield
    clone.done("umount", folder)


@contextmanager
def file_in_place_of(clone: Clone, folder: str) -> Iterator[None]:
    path = clone.root / folder
    path.rename(clone.root / "aside")
    path.touch()
    yield
    path.unlink()
    (clone.root / "aside").rename(path)


def fails_in_one_line_and_goes_on(
    clone: Clone, undisturbed: dict[str, bytes], harm: Callable, fault: str
) -> None:
    one = instance(clone, "gsm8k@mul_tokens-1")
    with harm(clone, "scores/mul_tokens"):
        status, said = clone.run(*one.command.split())
        assert status == 1
        assert re.fullmatch(seen(fault, one.name)[0] + "\n", said), said
    clone.done(*one.command.split())
    assert clone.outputs() == outputs_of(undisturbed)


def test_a_folder_that_cannot_be_written_is_one_line(small, undisturbed):
    fails_in_one_line_and_goes_on(
        small, undisturbed, mounted_read_only, "a folder of outputs is read-only"
    )


def test_a_file_where_a_folder_has_to_be_is_one_line(clone, undisturbed):
    fails_in_one_line_and_goes_on(
        clone, undisturbed, file_in_place_of, "a file is where a folder has to be"
    )


def test_files_of_the_past_and_of_the_future_make_no_stage_run(clone, undisturbed):
    now = time.time()
    years = 365 * 86400
    found = [
        path
        for path in clone.root.rglob("*")
        if path.is_file() and not {".git", ".dvc", ".venv"} & {*path.parts}
    ]
    for number, path in enumerate(sorted(found)):
        os.utime(path, (now, [now + 10 * years, now - 10 * years, 0][number % 3]))
    said = clone.done("dvc", "repro")
    assert "Running stage" not in said
    assert "up to date" in said
    for name in ("corpus", "compare"):
        clone.done(*instance(clone, name).command.split())
    assert clone.outputs() == outputs_of(undisturbed)


# Clocks that a person, or the network, may set.
CLOCKS = r"\b(time\.time(_ns)?|datetime\.(now|utcnow|today)|date\.today|time\.(localtime|gmtime|ctime))\b"  # noqa: E501


def test_no_code_of_a_stage_asks_a_clock_that_can_step():
    assert re.search(CLOCKS, "started = time.time()")
    for folder in ("pipeline", "common", "model", "stages"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            assert not re.search(CLOCKS, path.read_text()), path
