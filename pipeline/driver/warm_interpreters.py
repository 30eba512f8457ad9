"""The driver's side of warm interpreters: which instances they start, and their messages.

pipeline/seal/warm.py is the other side, and has the protocol. A stage with several instances to run
gets a warm interpreter, which then starts all of them. It is no longer used after an edit of
pyproject.toml or of a file of pipeline/, since it has read these already. An instance without a
warm interpreter starts as DVC would start it, a few seconds slower.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.declared.code_imports import STAGES, Code, stage_of
from pipeline.declared.dvc_yaml import Instance, read_instances
from pipeline.declared.faults import FAULTS
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.settings import FILE
from pipeline.driver.place import Job
from pipeline.seal.environment import of_warm_interpreter
from pipeline.seal.sealed_stage import variables_of
from pipeline.seal.warm import MODULE

_LONGEST = 1 << 20  # bytes of a message
_START = Path("pipeline/seal/start.py")


class Ended(NamedTuple):
    """An instance that has ended; `status` is None if the warm interpreter never started it."""

    identity: int
    status: int | None


class _Libraries(NamedTuple):
    """The libraries of a stage, to import before its instances start.

    `names` are top-level packages, `modules` what the stage's code imports of them, and `variables`
    are of the environment, which the libraries read when they are imported.
    """

    names: frozenset[str]
    modules: tuple[str, ...]
    variables: dict[str, str]


class _Warm:
    def __init__(self, connection: socket.socket, libraries: _Libraries):
        self.connection, self.libraries = connection, libraries
        self.running: dict[int, int | None] = {}  # by identity, the process once it has started
        self.broken = False


class WarmInterpreters:
    """The warm interpreters of one run, for the instances named `planned`."""

    def __init__(self, root: Path, planned: Iterable[str], inherited: Sequence[int] = ()):
        self._root, self._inherited = root, inherited
        self._libraries: dict[str, _Libraries] = {}  # by stage
        self._instances: dict[str, Instance] = {}
        self._warm: dict[str, _Warm] = {}  # by stage
        self._processes: list[subprocess.Popen[bytes]] = []
        self._count = 0
        self._seal = _seen(root)
        if _possible(root):
            self._read(planned)

    @property
    def descriptors(self) -> list[int]:
        """The sockets of all warm interpreters, for select."""
        return [warm.connection.fileno() for warm in self._warm.values() if not warm.broken]

    def start(self, job: Job, environment: dict[str, str], descriptor: int) -> int | None:
        """Start a job whose stdout and stderr are `descriptor`; return its identity.

        None if no warm interpreter can start it. `environment` is what a shell would get.
        """
        instance = self._instances.get(job.name)
        if instance is None or job.devices or job.commands != (instance.command,):
            return None
        warm = self._warm_for(instance.stage)
        if warm is None or _seen(self._root) != self._seal:
            return None
        self._count += 1
        command = ["-m", *shlex.split(instance.command)[2:]]
        request = {"id": self._count, "command": command, "environment": environment}
        if not _send(warm, request, descriptor):
            return None
        warm.running[self._count] = None
        return self._count

    def read(self) -> list[Ended]:
        """Return the instances that have ended since the last call."""
        return [ended for warm in [*self._warm.values()] for ended in self._messages(warm)]

    def process(self, identity: int) -> int | None:
        """Return the process id of an instance, which is also its process group's."""
        found = (warm.running.get(identity) for warm in self._warm.values())
        return next((process for process in found if process is not None), None)

    def close(self) -> None:
        for warm in self._warm.values():
            warm.connection.close()
        for process in self._processes:
            process.wait()

    def _read(self, planned: Iterable[str]) -> None:
        """Find the stages with several planned instances, and the libraries that these import."""
        try:
            tree = WorkingTree(self._root)
            every = read_instances(tree)
            instances = [every[name] for name in planned if name in every]
            counts = Counter(instance.stage for instance in instances)
            code = Code(tree)
            for instance in instances:
                stage = stage_of(instance.command)
                if stage is None or counts[instance.stage] < 2 or instance.meta.get("network"):
                    continue
                self._instances[instance.name] = instance
                if instance.stage not in self._libraries:
                    self._libraries[instance.stage] = _Libraries(
                        frozenset(code.libraries(stage)),
                        tuple(sorted(code.imported_at_once(stage))),
                        variables_of(self._root, instance),
                    )
        except (*FAULTS, SyntaxError):  # the stages and pipeline.check report the fault
            self._instances.clear()

    def _warm_for(self, stage: str) -> _Warm | None:
        if stage not in self._warm:
            self._warm[stage] = self._make(self._libraries[stage])
        warm = self._warm[stage]
        return None if warm.broken else warm

    def _make(self, libraries: _Libraries) -> _Warm:
        """Return a new warm interpreter, forked from the one that has most of its libraries."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        warm = _Warm(here, libraries)
        parents = [
            each
            for each in self._warm.values()
            if not each.broken
            and each.libraries.names <= libraries.names
            and each.libraries.variables == libraries.variables
        ]
        # Libraries cannot be removed from a process, so a parent must have none that the stage does
        # not import. Without a parent, start a new interpreter.
        parent = max(parents, key=lambda each: len(each.libraries.names), default=None)
        request = {"id": 0, "modules": libraries.modules}
        if parent is None or not _send(parent, request, there.fileno()):
            self._processes.append(self._interpreter(libraries, there))
        there.close()
        return warm

    def _interpreter(self, libraries: _Libraries, end: socket.socket) -> subprocess.Popen[bytes]:
        options = ["-P", "-s", "-S", *["-B"] * sys.dont_write_bytecode]
        command = [sys.executable, *options, str(self._root / _START), "-m", MODULE]
        return subprocess.Popen(
            [*command, *libraries.modules],
            cwd=self._root,
            env=of_warm_interpreter(libraries.variables),
            stdin=end.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the driver passes a terminal's Ctrl-C on
            pass_fds=self._inherited,
        )

    def _messages(self, warm: _Warm) -> Iterable[Ended]:
        while not warm.broken:
            try:
                line = warm.connection.recv(_LONGEST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                line = b""
            message: dict[str, Any] = json.loads(line or '{"refused": "it has ended"}')
            if "pid" in message and message["id"] in warm.running:
                warm.running[message["id"]] = message["pid"]
            elif "status" in message and message["id"] in warm.running:
                del warm.running[message["id"]]
                yield Ended(message["id"], message["status"])
            elif "refused" in message:
                warm.broken = True
                for identity, process in warm.running.items():
                    # Its forks end with it (pipeline/seal/warm.py).
                    yield Ended(identity, None if process is None else -signal.SIGTERM)
                warm.running = {}


def _send(warm: _Warm, request: dict[str, Any], descriptor: int) -> bool:
    try:
        socket.send_fds(warm.connection, [json.dumps(request).encode()], [descriptor])
    except OSError:
        warm.broken = True
    return not warm.broken


def _possible(root: Path) -> bool:
    """Return whether warm interpreters work here.

    They need pidfds (Linux), and `python` in a shell must be this interpreter.
    """
    found = shutil.which("python")
    same = found is not None and os.path.abspath(found) == os.path.abspath(sys.executable)
    return same and hasattr(os, "pidfd_open") and (root / STAGES / "__init__.py").is_file()


def _seen(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode, size, mtime of the files that a warm interpreter reads, to notice edits."""
    paths = [root / FILE, *sorted((root / "pipeline").rglob("*.py"))]
    return {
        str(path): (about.st_ino, about.st_size, about.st_mtime_ns)
        for path in paths
        if path.is_file() and (about := path.stat())
    }
