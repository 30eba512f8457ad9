"""Run instances on this machine, each in its own session with its own terminal.

An instance starts by a fork of a warm interpreter (warm_interpreters.py) if there is one for its
stage, else as `dvc repro` starts it: a shell for each of its commands, one after the other.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from select import select

from dvc.env import DVC_ROOT, DVC_STAGE
from dvc.stage.run import _make_cmd, get_executable
from dvc.utils import fix_env

from pipeline.driver.output import Output
from pipeline.driver.place import Job, Machine, Outcome, Progress
from pipeline.driver.warm_interpreters import WarmInterpreters

THREADS = "PIPELINE_THREADS"  # how many threads a stage may use
_PAUSE = 0.05  # seconds between two polls of processes that have closed their output


@dataclass
class _Running:
    job: Job
    output: Output
    commands: list[str]  # still to run, one after the other, as in DVC
    process: subprocess.Popen[bytes] | None = None
    identity: int | None = None  # its number in WarmInterpreters
    status: int | None = None
    told: set[int] = field(default_factory=set)  # the signals that were sent to it
    open: bool = True  # whether its output may have more
    handle: int | None = None  # a pidfd: readable once the process has ended; Linux only


class LocalPlace:
    """Processes on this machine; `planned` names the instances that may come.

    All processes inherit the descriptors `inherited`: locks that must outlive a killed driver.
    """

    def __init__(
        self,
        root: Path,
        planned: Iterable[str],
        machine: Machine,
        inherited: Sequence[int] = (),
    ):
        self.machine = machine
        self._root, self._inherited = root, inherited
        self._warm = WarmInterpreters(root, planned, inherited)
        self._running: dict[str, _Running] = {}

    def start(self, job: Job) -> None:
        running = _Running(job, Output(), list(job.commands))
        self._running[job.name] = running
        running.identity = self._warm.start(
            job, environment_of(self._root, job), running.output.child
        )
        if running.identity is None:
            self._start_next(running)

    def finished(self, seconds: float) -> list[Outcome]:
        until = time.monotonic() + seconds
        while True:
            self._read(max(0.0, min(_PAUSE, until - time.monotonic())))
            ended = [name for name, running in self._running.items() if self._has_ended(running)]
            if ended or time.monotonic() >= until:
                return [self._outcome(name) for name in ended]

    def progress(self) -> dict[str, Progress]:
        shown = {name: running.output.progress for name, running in self._running.items()}
        return {name: progress for name, progress in shown.items() if progress is not None}

    def stop(self, number: int) -> None:
        for running in self._running.values():
            group = self._group(running)
            if group is not None and number not in running.told:
                running.told.add(number)
                running.commands.clear()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, number)

    def close(self) -> None:
        self._warm.close()

    def _start_next(self, running: _Running) -> bool:
        """Start the job's next command; return whether there was one."""
        if not running.commands:
            return False
        running.process = subprocess.Popen(
            _make_cmd(get_executable(), running.commands.pop(0)),
            cwd=self._root / running.job.folder,
            env=environment_of(self._root, running.job),
            stdin=subprocess.DEVNULL,
            stdout=running.output.child,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # `stop` passes a terminal's Ctrl-C on
            pass_fds=self._inherited,
        )
        if hasattr(os, "pidfd_open"):
            running.handle = os.pidfd_open(running.process.pid)
        if not running.commands:
            running.output.started()
        return True

    def _read(self, seconds: float) -> None:
        """Read output and warm interpreters' messages; wait up to `seconds` for the first."""
        outputs = [running.output for running in self._running.values() if running.open]
        handles = [running.handle for running in self._running.values() if running.handle]
        descriptors = [output.fileno() for output in outputs] + handles + self._warm.descriptors
        ready, _, _ = select(descriptors, [], [], seconds)
        for running in self._running.values():
            if running.open and running.output.fileno() in ready:
                running.open = running.output.read()
        by_identity = {running.identity: running for running in self._running.values()}
        for identity, status in self._warm.read():
            running = by_identity[identity]
            running.identity, running.status = None, status
            if status is None:  # the warm interpreter never started it; start it by a shell
                self._start_next(running)

    def _has_ended(self, running: _Running) -> bool:
        if running.process is not None:
            running.status = running.process.poll()
            if running.status is not None and running.handle is not None:
                os.close(running.handle)
                running.handle = None
            if running.status == 0 and self._start_next(running):
                return False
        return running.status is not None

    def _outcome(self, name: str) -> Outcome:
        running = self._running.pop(name)
        output = running.output
        # A process that the stage has left behind may keep the terminal open, so read without
        # waiting for its end.
        output.started()
        output.read()
        outcome = Outcome(name, running.status or 0, output.log)
        output.close()
        return outcome

    def _group(self, running: _Running) -> int | None:
        if running.identity is not None:
            return self._warm.process(running.identity)
        return None if running.process is None else running.process.pid


def environment_of(root: Path, job: Job) -> dict[str, str]:
    """Return the variables of a job's shell: those that DVC sets, and the job's share."""
    chosen = {"CUDA_VISIBLE_DEVICES": ",".join(job.devices)} if job.devices else {}
    share = {THREADS: os.environ.get(THREADS) or str(job.threads)}
    return {**fix_env(None), **share, **chosen, DVC_ROOT: str(root), DVC_STAGE: job.name}
