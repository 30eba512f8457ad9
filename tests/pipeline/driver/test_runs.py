"""The driver on a graph of its own, whose stages wait for each other: what serial running could not
do.
"""

import contextlib
import fcntl
import json
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
import yaml
from repository import REPOSITORY
from signals import as_in_a_terminal, as_in_the_background

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

    def started(self) -> list[str]:
        """Return the stages that have started since the last call, in order."""
        names = [event.split()[1] for event in self.events if event.startswith("starts")]
        (self.root / "events").unlink(missing_ok=True)
        return names

    def touch(self, *names: str) -> None:
        for name in names:
            (self.root / name).touch()

    def start(
        self, jobs: int = 2, *stages: str, prepare: Callable[[], None] = as_in_a_terminal
    ) -> subprocess.Popen:
        command = [sys.executable, "-m", "pipeline.driver", "--jobs", str(jobs), *stages]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(
            command, cwd=self.root, env=self.environment, preexec_fn=prepare, **pipes
        )

    def run(self, jobs: int = 2, *stages: str, status: int = 0) -> str:
        with self.start(jobs, *stages) as process:
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


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_the_lock_and_the_outputs_are_those_of_dvc_repro_to_the_byte(graph, serial, jobs):
    if jobs > 1:
        graph.touch("together")
    graph.run(jobs)
    assert graph.results() == serial
    require_own_gpus(graph.events)
    graph.started()
    graph.serial()
    assert "up to date" in graph.run(jobs)
    assert graph.started() == [], "neither dvc repro nor a second run finds anything to do"


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
    assert {event.split()[2] for event in events if "half" in event} <= {"0", "1"}
    assert "starts join None" in events


def test_cores_are_shared_among_what_is_ready(graph):
    cores = len(os.sched_getaffinity(0))
    graph.run(jobs=500)
    *_, pair, join = (graph.root / "threads").read_text().split()
    assert (pair, join) == (str(cores), str(cores)), "each was alone"


def test_a_share_of_threads_that_a_person_has_set_is_kept(graph):
    graph.environment["PIPELINE_THREADS"] = "7"
    graph.run()
    assert set((graph.root / "threads").read_text().split()) == {"7"}


def test_one_stage_can_be_asked_for_and_gets_what_it_needs(graph):
    graph.run(2, "half@b")
    assert graph.started() == ["start", "half_b"]
    assert "error: driver: Stage 'other' not found" in graph.run(2, "other", status=1)


def test_what_came_out_the_same_starts_nothing_and_what_did_not_starts_what_is_behind_it(graph):
    graph.run()
    graph.started()
    (graph.root / "seed.txt").write_text("1 \n")
    graph.run()
    assert graph.started() == ["start"]
    (graph.root / "seed.txt").write_text("2\n")
    graph.run()
    first, *others = graph.started()
    assert (first, set(others)) == ("start", {f"half_{name}" for name in NAMES})


def test_what_has_run_before_comes_from_the_run_cache(graph, serial):
    graph.run()
    (graph.root / "seed.txt").write_text("2\n")
    graph.run()
    (graph.root / "dvc.lock").unlink()
    for name in ("start", "pair"):
        (graph.root / f"{name}.txt").unlink()
    (graph.root / "seed.txt").write_text("1\n")
    graph.started()
    graph.run()
    assert graph.started() == []
    assert graph.results() == serial


def test_after_a_failure_nothing_starts_what_runs_is_recorded_and_the_error_is_last(graph, serial):
    graph.touch("hold_half_a", "fail_half_b")
    with graph.start() as process:
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("failed   half@b"):
                break
        (graph.root / "hold_half_a").unlink()
        said += process.communicate()[0]
    assert process.returncode == 1, said
    assert graph.events.count("ends half_a 0") == 1, "what ran beside it has ended by itself"
    assert not [event for event in graph.events if re.search("half_c|pair|join", event)]
    assert said.index("done     half@a") < said.index("error: half_b was told to fail")
    assert said.splitlines()[-1].startswith("error: driver: half@b (exit status 1) failed")
    assert "  half@a:" in (graph.root / "dvc.lock").read_text()
    (graph.root / "fail_half_b").unlink()
    graph.started()
    graph.run()
    assert "half_a" not in graph.started()
    assert graph.results() == serial


def test_a_stage_that_makes_no_output_fails_in_one_line(graph):
    (graph.root / "stage.py").write_text("")
    said = graph.run(status=1)
    assert "error: start: output 'start.txt' does not exist" in said, said
    assert "Traceback" not in said
    assert not (graph.root / "dvc.lock").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_ends_the_stages_and_nobody_is_left(graph, serial, number):
    graph.serial("start")
    graph.touch("hold")
    with graph.start() as process:
        wait_for(lambda: len(graph.events) == 4, "two more stages start")
        process.send_signal(number)
        said, _ = process.communicate()
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith(f"error: driver: {number.name} stopped the run")
    assert graph.processes() == []
    (graph.root / "hold").unlink()
    graph.started()
    graph.run()
    assert "start" not in graph.started()
    assert graph.results() == serial


def test_a_second_signal_kills_a_stage_that_does_not_end(graph):
    text = (graph.root / "stage.py").read_text()
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    (graph.root / "stage.py").write_text(deaf + text)
    graph.touch("hold")
    with graph.start() as process:
        wait_for(lambda: graph.events, "the first stage starts")
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGINT)
        process.communicate()
    assert process.returncode == 1
    assert graph.processes() == []


def test_in_the_background_it_goes_on_after_ctrl_c_and_hangups_and_ends_by_sigterm(graph):
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
    assert said.splitlines()[-1].startswith("error: driver: SIGTERM stopped the run")
    assert graph.processes() == []


def test_a_killed_driver_s_stage_keeps_the_next_one_waiting(graph, serial):
    graph.touch("hold")
    with graph.start() as process:
        wait_for(lambda: "starts start None" in graph.events, "the first stage starts")
        process.kill()
    with graph.start() as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
        assert graph.started() == ["start"], "it has not started beside the other"
        (graph.root / "hold").unlink()
        process.communicate()
    assert process.returncode == 0
    assert graph.results() == serial


def test_what_a_killed_driver_had_finished_is_recorded_and_not_run_again(graph, serial):
    """Killed after the stage, before its outputs are hashed: another dvc holds DVC's lock."""
    kill_before_recording(graph)
    assert graph.started() == ["start"]
    graph.run()
    assert "start" not in graph.started()
    assert graph.results() == serial


@pytest.mark.parametrize("edited", ["start.txt", "seed.txt"])
def test_what_somebody_has_edited_since_is_run_again(graph, edited):
    kill_before_recording(graph)
    (graph.root / edited).write_text("5\n")
    graph.started()
    graph.run()
    assert graph.started()[0] == "start"
    assert (graph.root / "start.txt").read_text() == (graph.root / "seed.txt").read_text().strip()


def kill_before_recording(graph: Graph) -> None:
    graph.touch("hold")
    with graph.start() as process:
        wait_for(lambda: "starts start None" in graph.events, "the first stage starts")
        with open(graph.root / ".dvc/tmp/lock", "r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (graph.root / "hold").unlink()
            note = graph.root / ".dvc/tmp/driver/finished/start.json"
            wait_for(note.exists, "the stage has ended")
            time.sleep(0.2)
            process.kill()
    assert not (graph.root / "dvc.lock").exists()


def test_another_dvc_that_works_on_the_same_paths_is_not_disturbed(graph):
    other = ["python", "-c", "import sys; sys.stdin.read()", "dvc", "repro"]
    (graph.root / ".dvc/tmp").mkdir(exist_ok=True)
    with subprocess.Popen(other, stdin=subprocess.PIPE, env=graph.environment) as process:
        holder = {"pid": process.pid, "cmd": "dvc repro"}
        note = {"write": {str(graph.root / "half_b.txt"): holder}}
        (graph.root / ".dvc/tmp/rwlock").write_text(json.dumps(note))
        assert "is busy, it is being blocked by" in graph.run(status=1)
        process.communicate()
    graph.run()


def test_a_wrong_number_is_one_line(graph):
    assert "--jobs is a whole number above 0, not '0'" in graph.run(0, status=2)


def test_twenty_kills_at_any_moment_lose_nothing(graph, serial):
    """The pauses are spread over a whole run, from the imports to the last entry."""
    (graph.root / "stage.py").write_text(
        STAGE.replace("import os, sys, time", "import os, sys, time; time.sleep(0.1)")
    )
    (graph.root.parent / "reference").mkdir()
    reference = Graph(graph.root.parent / "reference")
    shutil.copy(graph.root / "stage.py", reference.root)
    reference.serial()
    done: set[str] = set()
    for number in range(20):
        with graph.start() as process:
            time.sleep(0.5 + 0.1 * number)
            process.kill()
        assert done.isdisjoint(graph.started()), "what dvc.lock has does not run again"
        if (graph.root / "dvc.lock").exists():
            entries = yaml.safe_load((graph.root / "dvc.lock").read_text())["stages"]
            done |= {name.replace("@", "_") for name in entries}
    graph.run()
    assert done.isdisjoint(graph.started())
    assert graph.results() == reference.results()
    graph.serial()
    assert graph.started() == [], "dvc repro finds nothing to do"
