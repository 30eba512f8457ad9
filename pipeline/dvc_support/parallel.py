"""`make repro JOBS=N`: what `dvc repro` does, with up to N stages at a time.

A stage that is out of date starts, as `dvc --wait-for-lock repro --single-item STAGE`, when all
that it depends on in DVC's own graph is done. DVC holds its lock while it hashes and while it reads
and writes dvc.lock, and lets go of it while a stage runs, so no entry is lost. After a failure or a
signal nothing new starts. At the end a plain `dvc repro` must find nothing to do. A stage whose
section of params.yaml says `device: cuda` has `processes` GPUs to itself (CUDA_VISIBLE_DEVICES), of
DEVICES=0,1,… or else of all that there are. On a CPU each stage gets an N-th of the cores, at least
one, in PIPELINE_THREADS, or what that variable says already. Reads dvc.yaml, params.yaml and
dvc.lock. Writes what the stages write, and dvc.lock.

    python -m pipeline.dvc_support.parallel 4
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
from pathlib import Path
from typing import NamedTuple

import psutil
from dvc.exceptions import DvcException

from pipeline.declared.dvc_yaml import PARAMS, read_mapping
from pipeline.declared.faults import FAULTS
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import LOCK, Graph
from pipeline.dvc_support.plan import Plan, put_in_order, read_plan
from pipeline.terminal.command_lines import command_line

LOGS = Path(".dvc/tmp/parallel")  # what each stage says, while it runs
THREADS = "PIPELINE_THREADS"  # how many threads a stage may use


class Job(NamedTuple):
    process: subprocess.Popen[bytes]
    devices: list[str]
    started: float


class Scheduler:
    """Runs the stages of a plan. `stopping` is the signal that has asked for its end."""

    def __init__(self, root: Path, plan: Plan, jobs: int, devices: list[str], lock: int):
        self._root, self._plan, self._jobs, self._free, self._lock = root, plan, jobs, devices, lock
        self._threads = os.environ.get(THREADS) or str(max(1, _cores() // jobs))
        self._waiting: list[str] = []
        for name, upstream in plan.upstream.items():
            if name in plan.changed or upstream.intersection(self._waiting):
                self._waiting.append(name)
        params = read_mapping(WorkingTree(root), PARAMS)
        self._needs = {
            name: min(_devices_asked(params.get(name.split("@")[0])), len(devices))
            for name in self._waiting
        }
        self._running: dict[str, Job] = {}
        self._told: set[int] = set()
        self.failed: list[str] = []
        self.stopping: int | None = None

    def run(self) -> None:
        while self._running or (self._waiting and not self._ending):
            if not self._ending:
                self._start_what_can()
            for name, job in list(self._running.items()):
                if self.stopping:
                    self._stop(job, self.stopping)
                if job.process.poll() is not None:
                    self._finish(name, self._running.pop(name))
            time.sleep(0.05)

    @property
    def _ending(self) -> bool:
        return bool(self.failed or self.stopping)

    def _start_what_can(self) -> None:
        held = False  # what waits for several GPUs is not overtaken by what wants one
        for name in list(self._waiting):
            if len(self._running) == self._jobs:
                return
            if self._plan.upstream[name] & {*self._waiting, *self._running}:
                continue
            if name not in self._plan.changed and not self._is_stale(name):
                self._waiting.remove(name)  # what it depends on came out the same
                continue
            self._plan.changed.add(name)
            needed = self._needs[name]
            if needed and (held or needed > len(self._free)):
                held = True
                continue
            self._waiting.remove(name)
            self._start(name, [self._free.pop(0) for _ in range(needed)])

    def _is_stale(self, name: str) -> bool:
        """Return whether the stage is stale by dvc.lock.

        True while DVC rewrites the file, in place: dvc then finds out for itself.
        """
        try:
            return name in Graph(WorkingTree(self._root)).stale()
        except FAULTS:
            return True

    def _start(self, name: str, devices: list[str]) -> None:
        chosen = {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else {}
        print(
            f"parallel: {name} starts"
            + (f" on GPU {chosen['CUDA_VISIBLE_DEVICES']}" if devices else ""),
            flush=True,
        )
        with open(self._root / LOGS / name, "wb") as log:
            process = subprocess.Popen(
                ["dvc", "--wait-for-lock", "repro", "--single-item", name],
                cwd=self._root,
                env={**os.environ, THREADS: self._threads, **chosen},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C is passed on by `_stop`
                pass_fds=[self._lock],
            )
        self._running[name] = Job(process, devices, time.monotonic())

    def _stop(self, job: Job, number: int) -> None:
        """Signal what dvc has started, each process once.

        DVC itself may be writing dvc.lock, and ends when its stage has.
        """
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(job.process.pid).children(recursive=True):
                if process.pid not in self._told:
                    self._told.add(process.pid)
                    process.send_signal(number)

    def _finish(self, name: str, job: Job) -> None:
        self._free = sorted([*self._free, *job.devices])
        if job.process.returncode:
            self.failed.append(name)
            print(f"parallel: {name} failed, so nothing new starts", flush=True)
            return
        said = (self._root / LOGS / name).read_text(errors="replace").split("\n\n")[0].splitlines()
        print(
            "\n".join(
                line
                for line in said
                if not line.endswith((f"lock file '{LOCK}'", "to remote storage."))
            )
        )
        print(f"parallel: {name} took {time.monotonic() - job.started:.1f} s", flush=True)


def _cores() -> int:
    """Return how many cores this process may use, as its stages may."""
    return len(psutil.Process().cpu_affinity()) if sys.platform == "linux" else os.cpu_count() or 1


def _devices_asked(section: object) -> int:
    return (
        section.get("processes", 1)
        if isinstance(section, dict) and section.get("device") == "cuda"
        else 0
    )


def _devices() -> list[str]:
    chosen = os.environ.get("DEVICES") or os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        asked = subprocess.run(query, capture_output=True, text=True)
        chosen = ",".join(re.findall("[0-9]+", asked.stdout)) if asked.returncode == 0 else ""
    return [device for device in (chosen or "").split(",") if device]


def _only_one(root: Path) -> int:
    """Return a lock that dvc's processes inherit, so a killed run holds it until they end."""
    (root / LOGS).mkdir(parents=True, exist_ok=True)
    lock = os.open(root / LOGS / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(
            "error: parallel: another one runs here, or stages that a killed one has started; "
            "wait for them, or end them"
        )
    return lock


def main() -> None:
    parser = command_line("pipeline.dvc_support.parallel", __doc__, changes=True)
    parser.add_argument(
        "jobs", metavar="N", help="how many stages at a time, a whole number above 0"
    )
    jobs = parser.parse_args().jobs
    if not re.fullmatch("[1-9][0-9]*", jobs):
        parser.error(f"N is a whole number above 0, not {jobs!r}; make repro JOBS=N")
    root = Path.cwd()
    lock = _only_one(root)
    try:
        plan = read_plan(root)
    except DvcException as error:
        sys.exit(f"error: parallel: {' '.join(str(error).split())}")
    scheduler = Scheduler(root, plan, int(jobs), _devices(), lock)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        # nohup has SIGHUP ignored, and a shell that starts a command in the background SIGINT.
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: setattr(scheduler, "stopping", number))
    scheduler.run()
    if (root / LOCK).is_file():
        put_in_order(root, plan)
    for name in scheduler.failed:
        print(
            f"\nparallel: {name} failed:\n{(root / LOGS / name).read_text(errors='replace')}",
            flush=True,
        )
    if scheduler.failed or scheduler.stopping:
        why = (
            signal.Signals(scheduler.stopping).name
            if scheduler.stopping
            else f"{', '.join(scheduler.failed)} failed"
        )
        sys.exit(
            f"error: parallel: {why}; what was done is recorded, and the next run goes on from "
            "there"
        )
    again = subprocess.run(
        ["dvc", "repro"], cwd=root, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if again.returncode or "Running stage" in again.stdout:
        sys.exit(
            f"{again.stdout}\nerror: parallel: dvc repro still had this to do, which it should not"
        )
    print("parallel: dvc repro finds nothing more to do")


if __name__ == "__main__":
    main()
