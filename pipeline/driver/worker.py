"""The worker's side of pipeline/driver/cluster.py: run instances as processes of a Dask worker.

Start a worker in the repository's folder, so that it finds this module:

    .venv/bin/python -m dask worker --scheduler-file scheduler.json --nthreads 2

Dask sends arguments and results as pickles, so here they are plain values. A command line comes in.
A status, a log, an entry for dvc.lock and small files go back.

    the worker's folder is the driver's    instances run in that folder
    any other folder                       they run in a clone below .dvc/tmp/cluster, at the
                                           driver's commit; each worker process has its own clone

The processes of one instance:

    worker ──socket── keeper.py ── shell with the stage's command

Signals go down through the socket, and the exit status comes up. When the socket ends, the worker
has died or the instance is cancelled, and the keeper ends the command.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dask.system import CPU_COUNT
from distributed import Worker, get_worker
from dvc.stage.run import _make_cmd, get_executable

from common.files import write_bytes
from pipeline.declared.library_versions import installed_version
from pipeline.declared.lockfile import LOCK
from pipeline.driver.elsewhere import ANSWER, REQUEST, files_below
from pipeline.driver.local import environment_of
from pipeline.driver.output import Output
from pipeline.driver.place import Job

FOLDER = Path(".dvc/tmp/cluster")
KEEPER = Path(__file__).with_name("keeper.py")
SHARE = "PIPELINE_SHARE"  # the share of a stage's pieces that a process makes
_PAUSE = 0.5  # seconds between two checks whether the driver still wants the instance
_BETWEEN_PROGRESS = 1.0  # seconds
_KEPT = "*.scratch"  # folders of killed stages' finished pieces, which git clean must spare


def _hash_of_code() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()


CODE = _hash_of_code()  # hash of this package, as this process has imported it
_lines: dict[str, tuple[str, socket.socket]] = {}  # task → its driver, its keeper's socket
_stopped: dict[str, int] = {}  # driver → the signal with which it has stopped all its instances
_devices_in_use: set[str] = set()
_choosing_devices = threading.Lock()
_clone: tuple[Path, int] | None = None  # this process's clone, and the descriptor of its lock


class CannotClone(Exception):
    """The reason why a worker cannot run the driver's commit, in one line."""


def about(token: str, libraries: list[str], dask_worker: Worker) -> dict[str, Any]:
    """Return what the driver must know about a worker before it sends work.

    The driver has written random text into the file that `token` names. A worker that returns this
    text has the same folder. Dask fills in `dask_worker`.
    """
    with contextlib.suppress(OSError):
        token = (FOLDER / token).read_text()
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return {
        "code": CODE,
        "cores": CPU_COUNT,
        "cpus": f"{socket.gethostname()} {cpus}",  # equal where workers have the same cores
        "folder": os.getcwd(),
        "host": socket.gethostname(),
        "listens": [each.listen_address for each in dask_worker.listeners],
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "token": token,
        "versions": {name: installed_version(name) for name in libraries},
    }


async def clone(commit: str, sources: list[str]) -> str:
    """Check out the driver's commit in this worker's clone; return why it cannot, or nothing."""
    try:
        await asyncio.to_thread(_check_out, commit, sources)
    except CannotClone as reason:
        return str(reason)
    return ""


def signal_all(driver: str, number: int) -> None:
    """Send a signal to everything that runs for a driver, and start nothing more for it."""
    _stopped[driver] = number
    for owner, line in list(_lines.values()):
        if owner == driver:
            with contextlib.suppress(OSError):  # its keeper has just ended
                line.send(bytes([number]))


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Run an instance or a share of its pieces; return its status and log.

    From a clone, also return its entry for dvc.lock and its small files.
    """
    worker = get_worker()
    running = _Running(worker, str(worker.get_current_task()), task)
    with _devices(worker, task["devices"]) as devices:
        job = Job(task["name"], tuple(task["commands"]), task["threads"], devices, task["folder"])
        if task["clone"] is None:
            return running.here(Path.cwd(), job)
        if _clone is None:
            raise RuntimeError("this worker has been started again and has no clone yet")
        return running.in_clone(_clone[0], job, task["clone"])


class _Running:
    """One task of this worker while its commands run."""

    def __init__(self, worker: Worker, key: str, task: dict[str, Any]):
        self._worker, self._key, self._task = worker, key, task
        self._output = Output()
        self._told: Any = None
        self._next_telling = 0.0

    def here(self, root: Path, job: Job) -> dict[str, Any]:
        environment = environment_of(root, job) | self._more()
        status = 0
        for command in job.commands:
            status = status or self._keep(_shell(command), root / job.folder, environment)
        return self._result(status)

    def in_clone(self, root: Path, job: Job, inputs: dict[str, Any]) -> dict[str, Any]:
        """Run the job by the clone's pipeline/driver/elsewhere.py, which pulls, runs and pushes."""
        for path, content in inputs["files"].items():
            _write(root, path, content)
        # Delete only what the driver did not send, as left by an earlier run. The folder stays,
        # because other instances of this clone read it meanwhile.
        for file in (each for path in inputs["sent"] for each in files_below(root / path)):
            if os.path.relpath(file, root) not in inputs["files"]:
                file.unlink()
        folder = FOLDER / job.name
        request = {"name": job.name, **inputs["request"]}
        _write(root, str(folder / REQUEST), json.dumps(request).encode())
        (root / folder / ANSWER).unlink(missing_ok=True)
        command = [sys.executable, "-m", "pipeline.driver.elsewhere", "run", str(folder)]
        status = self._keep(command, root, environment_of(root, job) | self._more())
        result = self._result(status)
        if status == 0:
            answer = json.loads((root / folder / ANSWER).read_bytes())
            files = {path: (root / path).read_bytes() for path in answer["files"]}
            result |= {"entry": answer["entry"], "files": files}
        shutil.rmtree(root / folder)
        return result

    def _more(self) -> dict[str, str]:
        """Return further variables of a stage: PATH with this interpreter first, and its share."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        share = {SHARE: self._task["share"]} if self._task["share"] else {}
        return {"PATH": path, **share}

    def _keep(self, command: list[str], folder: Path, environment: dict[str, str]) -> int:
        """Run one command by a keeper (keeper.py), which ends the command if this process dies."""
        here, there = socket.socketpair()
        with here:
            with there:
                # In this order: `signal_all` sets `_stopped` first and then reads `_lines`. So a
                # signal that comes now either finds this line, or is seen here.
                _lines[self._key] = self._task["driver"], here
                if (number := _stopped.get(self._task["driver"])) is not None:
                    del _lines[self._key]
                    return -number
                keeper = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(KEEPER), *command],
                    cwd=folder,
                    env=environment,
                    stdin=there.fileno(),
                    stdout=self._output.child,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a terminal's Ctrl-C goes to the worker only
                )
            try:
                status = self._wait(here)
            finally:
                del _lines[self._key]
            keeper.wait()
        return status

    def _wait(self, line: socket.socket) -> int:
        """Return the keeper's status; meanwhile report progress, and end a cancelled command."""
        wanted = True
        while True:
            listened = [line.fileno(), self._output.fileno()]
            ready, _, _ = select.select(listened, [], [], _PAUSE)
            if self._output.fileno() in ready:
                self._output.read()
            self._tell()
            if wanted and not self._is_wanted():
                # The keeper reads the end of the socket, and ends the command. Go on reading until
                # it reports the status: Dask must not reuse the slot before.
                wanted = False
                line.shutdown(socket.SHUT_WR)
            if line.fileno() in ready:
                status = line.recv(16)
                # An end without a status: something has killed the keeper.
                return int(status) if status else -signal.SIGKILL

    def _is_wanted(self) -> bool:
        """Return whether the driver still waits for this task.

        Dask releases the task when the driver cancels it or disappears. The worker closes when the
        scheduler disappears.
        """
        task = self._worker.state.tasks.get(self._key)
        executing = task is not None and task.state in ("executing", "long-running")
        return executing and self._worker.status.name in ("running", "paused")

    def _tell(self) -> None:
        progress = self._output.progress
        if progress != self._told and time.monotonic() >= self._next_telling:
            self._told, self._next_telling = progress, time.monotonic() + _BETWEEN_PROGRESS
            message = {"key": self._key, "progress": None if progress is None else list(progress)}
            self._worker.log_event(self._task["driver"], message)

    def _result(self, status: int) -> dict[str, Any]:
        self._output.started()
        self._output.read()
        log = self._output.log
        self._output.close()
        return {"status": status, "log": log}


def _shell(command: str) -> list[str]:
    found: list[str] = _make_cmd(get_executable(), command)
    return found


@contextlib.contextmanager
def _devices(worker: Worker, count: int) -> Iterator[tuple[str, ...]]:
    """Take `count` GPUs of this worker; its resource GPU is how many it may use."""
    total = int(worker.state.total_resources.get("GPU", 0))
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    every = [each for each in named if each] or [str(number) for number in range(total)]
    with _choosing_devices:
        taken = tuple(each for each in every[:total] if each not in _devices_in_use)[:count]
        _devices_in_use.update(taken)
    try:
        yield taken
    finally:
        _devices_in_use.difference_update(taken)


def _write(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    write_bytes(root / path, content)


def _check_out(commit: str, sources: list[str]) -> None:
    """Bring this process's clone to `commit`, with the DVC settings of the worker's checkout.

    Order: take a clone → fetch the commit, if it is new → remove dvc.lock → check out → remove
    untracked files, except finished pieces → configure DVC. While instances of another driver run
    in the clone, nothing is touched, and another commit is refused.
    """
    global _clone
    if _clone is None:
        _clone = _own_clone()
    root = _clone[0]
    _git(root, "init", "--quiet")
    before = _git_says(root, "rev-parse", "--verify", "--quiet", "HEAD")
    if _lines:  # instances of another driver run here
        if before != commit:
            raise CannotClone("it runs instances of another commit")
        return
    if before != commit:
        _fetch(root, commit, sources)
    (root / LOCK).unlink(missing_ok=True)  # it may have entries of earlier runs
    _git(root, "checkout", "--quiet", "--force", "--detach", commit)
    if before != commit:
        _git(root, "clean", "--quiet", "-ffdx", "--exclude", _KEPT)
    command = [sys.executable, "-m", "pipeline.driver.elsewhere", "configure", os.getcwd()]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise CannotClone(_last_line(done.stderr))


def _own_clone() -> tuple[Path, int]:
    """Return the first clone folder that no other worker process has locked, and its lock."""
    number = 0
    while True:
        folder = (FOLDER / f"clone-{number}").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            number += 1
        else:
            return folder, lock


def _fetch(root: Path, commit: str, sources: list[str]) -> None:
    here = [os.getcwd()] if Path(".git").exists() else []
    tried = [*here, *_remotes(Path.cwd()), *sources]
    for source in dict.fromkeys(tried):
        if not _git_fails(root, "cat-file", "-e", f"{commit}^{{commit}}"):
            return
        _git_fails(root, "fetch", "--quiet", "--no-tags", "--end-of-options", source, commit)
    problem = _git_fails(root, "cat-file", "-e", f"{commit}^{{commit}}")
    if problem:
        raise CannotClone(
            f"commit {commit} is not in {', '.join(dict.fromkeys(tried)) or 'any repository'}; "
            "push it where the worker can fetch it"
        )


def _remotes(root: Path) -> list[str]:
    names = _git_says(root, "remote").split()
    return [_git_says(root, "remote", "get-url", name) for name in names]


def _git(root: Path, *arguments: str) -> None:
    if problem := _git_fails(root, *arguments):
        raise CannotClone(problem)


def _git_fails(root: Path, *arguments: str) -> str:
    """Run git; return what went wrong, or nothing."""
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    return f"git {arguments[0]}: {_last_line(done.stderr)}" if done.returncode else ""


def _git_says(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1].removeprefix("error: ")
