"""`make repro JOBS=N` on a graph of its own, whose stages wait for each other: what serial running
could not do.
"""

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from repository import REPOSITORY
from signals import as_in_a_terminal, as_in_the_background

pytestmark = pytest.mark.slow(
    "stages wait for each other, and for limits that have to pass", minutes=2
)

NAMES = ["a", "b", "c"]
DVC_YAML = """
stages:
  start:
    cmd: python stage.py start
    deps: [seed.txt]
    outs: [start.txt]
  half:
    matrix:
      name: ${names}
    cmd: python stage.py half ${item.name}
    deps: [start.txt]
    params: [half]
    outs: ["half_${item.name}.txt"]
  pair:
    cmd: python stage.py pair
    deps: [half_a.txt, half_b.txt]
    params: [pair]
    outs: [pair.txt]
  join:
    cmd: python stage.py join
    deps: [half_a.txt, half_b.txt, half_c.txt, pair.txt]
    outs: [join.txt]
"""
PARAMS = """
names: [a, b, c]
half: {device: cuda}
pair: {device: cuda, processes: 2}
"""
STAGE = """
import os, sys, time
stage, name = sys.argv[1], "_".join(sys.argv[1:])

def event(what):
    with open("events", "a") as events:
        events.write(f"{what} {name} {os.environ.get('CUDA_VISIBLE_DEVICES')}\\n")

event("starts")
with open("threads", "a") as threads:
    threads.write(os.environ.get("PIPELINE_THREADS", "none") + "\\n")
limit = time.monotonic() + 600

def waits():
    alone = stage == "half" and os.path.exists("together") and open("events").read().count("starts half") < 2
    return alone or os.path.exists("hold") or os.path.exists(f"hold_{name}")

while waits():
    if time.monotonic() > limit:
        sys.exit("nobody else came")
    time.sleep(0.01)
if os.path.exists(f"fail_{name}"):
    sys.exit(f"error: {name} was told to fail")
event("ends")
with open(f"{name}.txt", "w") as output:
    output.write(open("seed.txt").read().strip() if stage == "start" else name)
"""  # noqa: E501


class Graph:
    def __init__(self, root: Path):
        self.root = root
        for name, text in (
            ("dvc.yaml", DVC_YAML),
            ("params.yaml", PARAMS),
            ("stage.py", STAGE),
            ("seed.txt", "1\n"),
        ):
            (root / name).write_text(text)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "DEVICES": "0,1",
        }
        subprocess.run(
            ["dvc", "init", "-q", "--no-scm"], cwd=root, env=self.environment, check=True
        )

    def touch(self, *names: str) -> None:
        for name in names:
            (self.root / name).touch()

    def start(
        self, jobs: int = 2, prepare: Callable[[], None] = as_in_a_terminal
    ) -> subprocess.Popen:
        command = [sys.executable, "-m", "pipeline.dvc_support.parallel", str(jobs)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(
            command, cwd=self.root, env=self.environment, preexec_fn=prepare, **pipes
        )

    def run(self, jobs: int = 2, status: int = 0) -> str:
        with self.start(jobs) as process:
            said, _ = process.communicate()
        assert process.returncode == status, said
        return said

    def serial(self, *stages: str) -> None:
        subprocess.run(
            ["dvc", "repro", "-q", *stages], cwd=self.root, env=self.environment, check=True
        )

    @property
    def events(self) -> list[str]:
        path = self.root / "events"
        return path.read_text().splitlines() if path.exists() else []

    def results(self) -> dict[str, bytes]:
        """Return dvc.lock and all outputs."""
        paths = [path for path in self.root.glob("*.txt") if path.name != "seed.txt"]
        return {path.name: path.read_bytes() for path in [*paths, self.root / "dvc.lock"]}

    def processes(self) -> list[int]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.root):
                    found.append(process.pid)
        return found


@pytest.fixture
def graph(tmp_path) -> Graph:
    (tmp_path / "pipeline").mkdir()
    return Graph(tmp_path / "pipeline")


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> dict[str, bytes]:
    """What `dvc repro` leaves."""
    graph = Graph(tmp_path_factory.mktemp("serial"))
    graph.serial()
    assert len(graph.results()) == 7
    return graph.results()


def wait_for(condition, what: str) -> None:
    limit = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


def test_the_lock_and_the_outputs_are_those_of_dvc_repro_to_the_byte(graph, serial):
    graph.touch("together")
    said = graph.run(jobs=4)
    assert graph.results() == serial
    assert said.splitlines()[-1] == "parallel: dvc repro finds nothing more to do"
    assert re.search(
        "Running stage 'half@a':\n> python stage.py half a\nparallel: half@a took", said
    )
    require_own_gpus(graph.events)
    assert "starts" not in graph.run(jobs=4), "a second run has nothing to do"


@pytest.mark.parametrize(
    ("jobs", "share"), [(1, len(os.sched_getaffinity(0))), (2, None), (500, 1)]
)
def test_each_stage_gets_its_share_of_the_cores(graph, jobs, share):
    graph.run(jobs)
    expected = share or max(1, len(os.sched_getaffinity(0)) // jobs)
    assert set((graph.root / "threads").read_text().split()) == {str(expected)}


def test_a_share_of_threads_that_a_person_has_set_is_kept(graph):
    graph.environment["PIPELINE_THREADS"] = "7"
    graph.run()
    assert set((graph.root / "threads").read_text().split()) == {"7"}


def require_own_gpus(events: list[str]) -> None:
    running: dict[str, str] = {}
    for what, name, devices in map(str.split, events):
        if what == "ends":
            del running[name]
            continue
        running[name] = devices
        taken = [
            device for held in running.values() if held != "None" for device in held.split(",")
        ]
        assert len(taken) == len(set(taken)), running
        assert len(running) <= 4
    assert "starts pair 0,1" in events
    assert {event.split()[2] for event in events if "half" in event} == {"0", "1"}
    assert "starts join None" in events


def test_what_came_out_the_same_starts_nothing_and_what_did_not_starts_what_is_behind_it(graph):
    graph.run()
    (graph.root / "seed.txt").write_text("1 \n")
    assert re.findall(r"parallel: (\S+) starts", graph.run()) == ["start"]
    (graph.root / "seed.txt").write_text("2\n")
    started = re.findall(r"parallel: (\S+) starts", graph.run())
    assert (started[0], set(started[1:])) == ("start", {f"half@{name}" for name in NAMES})


def test_after_a_failure_nothing_starts_what_runs_is_recorded_and_the_error_is_last(graph, serial):
    graph.touch("hold_half_a", "fail_half_b")
    with graph.start() as process:
        said = ""
        for line in process.stdout:
            said += line
            if line == "parallel: half@b failed, so nothing new starts\n":
                break
        (graph.root / "hold_half_a").unlink()
        said += process.communicate()[0]
    assert process.returncode == 1, said
    assert graph.events.count("ends half_a 0") == 1, "what ran beside it has ended by itself"
    assert not [event for event in graph.events if re.search("half_c|pair|join", event)]
    assert said.index("half@a took") < said.index("error: half_b was told to fail")
    assert (
        said.splitlines()[-1]
        == "error: parallel: half@b failed; what was done is recorded, and the next run goes on"
        " from there"
    )
    assert "  half@a:" in (graph.root / "dvc.lock").read_text()
    (graph.root / "fail_half_b").unlink()
    assert "half@a starts" not in graph.run()
    assert graph.results() == serial


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_stages_and_nobody_is_left(graph, serial, number):
    graph.serial("start")
    graph.touch("hold")
    with graph.start() as process:
        wait_for(lambda: len(graph.events) == 4, "two more stages start")
        process.send_signal(number)
        said, _ = process.communicate()
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith(
        f"error: parallel: {number.name}; what was done is recorded"
    )
    assert graph.processes() == []
    (graph.root / "hold").unlink()
    assert "parallel: start starts" not in graph.run()
    assert graph.results() == serial


def test_in_the_background_it_goes_on_after_ctrl_c_and_hangups_and_ends_by_sigterm(graph, serial):
    graph.serial("start")
    graph.touch("hold")
    with graph.start(prepare=as_in_the_background) as process:
        wait_for(lambda: len(graph.events) == 4, "two more stages start")
        for number in (signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate()
    assert said.splitlines()[-1].startswith("error: parallel: SIGTERM; what was done is recorded")
    assert graph.processes() == []


def test_what_a_killed_run_has_started_ends_by_itself_is_recorded_and_keeps_another_run_off(
    graph, serial
):
    graph.touch("hold")
    with graph.start() as process:
        wait_for(lambda: "starts start None" in graph.events, "the first stage starts")
        process.kill()
    assert "error: parallel: another one runs here" in graph.run(status=1)
    (graph.root / "hold").unlink()
    wait_for(lambda: graph.processes() == [], "the stage ends")
    assert "  start:" in (graph.root / "dvc.lock").read_text()
    assert "parallel: start starts" not in graph.run()
    assert graph.results() == serial


def test_a_repository_that_dvc_is_busy_in_and_a_wrong_number_are_one_line(graph):
    with open(graph.root / ".dvc/tmp/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert re.fullmatch("error: parallel: Unable to acquire lock.*\n", graph.run(status=1))
    assert "N is a whole number above 0" in graph.run(jobs=0, status=2)


def test_without_waiting_for_the_lock_stages_would_fail(graph):
    """The mutation: several of DVC at once, as issue 11054 of treeverse/dvc has it."""
    mutated = graph.root / "mutated"
    for name in ("pipeline", "common"):
        without_bytecode = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, mutated / name, ignore=without_bytecode)
    path = mutated / "pipeline/dvc_support/parallel.py"
    assert path.read_text().count('"--wait-for-lock", ') == 1
    path.write_text(path.read_text().replace('"--wait-for-lock", ', ""))
    graph.environment["PYTHONPATH"] = str(mutated)
    (graph.root / ".dvc/tmp").mkdir(exist_ok=True)
    graph.touch("hold")
    with graph.start() as process:
        wait_for(lambda: "starts start None" in graph.events, "the first stage starts")
        with open(graph.root / ".dvc/tmp/lock", "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (graph.root / "hold").unlink()
            said, _ = process.communicate()
    assert process.returncode == 1
    assert "Unable to acquire lock" in said
