"""Start many instances of a stage from one interpreter that has imported their libraries.

Importing torch and transformers takes two to three seconds, for every export and every evaluation.
A warm interpreter imports them once and forks for each instance:

    driver ── socket ── warm interpreter: libraries and pipeline/, nothing else of the project
                          ├─ fork: an instance, with its own variables, sealed
                          ├─ fork: another instance
                          └─ fork: another warm interpreter, which imports more libraries

pipeline/ is no input of any stage. Only the fork learns which instance it is. It imports the
project's code from source, like every other stage. So a warm interpreter holds no parameter, no
input and no code that an edit could change. It serves only instances whose stage imports these
libraries itself, and that have the same variables of pyproject.toml.

The driver (pipeline/driver/local.py) starts `python … pipeline/seal/start.py -m pipeline.seal.warm
MODULE…` with one end of a socket as standard input. Each message is one JSON object:

    1. here   → {"ready": true}, or {"refused": reason} and exit
    2. driver → {"id", "command", "environment"} and one descriptor, the instance's stdout and
                stderr; or {"id", "modules"} and the socket of the new warm interpreter
    3. here   → {"id", "pid"}      the fork has started
    4. here   → {"id", "status"}   the fork has ended
"""

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from pipeline.seal.environment import of_any_stage
from pipeline.seal.parent_death import end_with_parent

MODULE = "pipeline.seal.warm"
_LONGEST = 1 << 20  # bytes of a message


def serve(modules: Sequence[str]) -> list[str]:
    """Import `modules`, serve the driver; return only in a fork, with the command to run.

    Exits when the driver closes its end of the socket, or dies.
    """
    end_with_parent(signal.SIGKILL, os.getppid())
    connection = socket.socket(fileno=os.dup(0))
    while True:
        _import(modules)
        # Forks share this memory until one writes to it; a garbage collection would write to all.
        gc.freeze()
        refused = _threads()
        _send(connection, {"refused": refused} if refused else {"ready": True})
        if refused:
            _exit()
        request = _Server(connection).next_fork()
        if "command" in request:
            return list(request["command"])
        modules, connection = request["modules"], socket.socket(fileno=request["descriptor"])


class _Server:
    """The loop of one warm interpreter."""

    def __init__(self, connection: socket.socket):
        self._connection = connection
        self._selector = selectors.DefaultSelector()
        self._selector.register(connection, selectors.EVENT_READ, None)

    def next_fork(self) -> dict[str, Any]:
        """Serve requests for ever; return only in a fork, with the request that it is for."""
        while True:
            for key, _ in self._selector.select():
                if key.data is not None:
                    self._ended(key.fd, *key.data)
                    continue
                request = self._receive()
                if self._fork(request):
                    return request

    def _receive(self) -> dict[str, Any]:
        line, descriptors, _, _ = socket.recv_fds(self._connection, _LONGEST, 1)
        if not line:
            os._exit(0)
        request: dict[str, Any] = json.loads(line)
        request["descriptor"] = descriptors[0]
        return request

    def _fork(self, request: dict[str, Any]) -> bool:
        """Fork for a request; return True in the new process.

        The parent watches the fork by a pidfd, which the selector reports when the fork ends. The
        fork closes everything of the parent's, so that it cannot read the driver's messages.
        """
        parent = os.getpid()
        process = os.fork()
        if process:
            os.close(request["descriptor"])
            watch = os.pidfd_open(process)
            self._selector.register(watch, selectors.EVENT_READ, (process, request["id"]))
            _send(self._connection, {"id": request["id"], "pid": process})
            return False
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                os.close(key.fd)
        self._selector.close()
        self._connection.close()
        end_with_parent(signal.SIGKILL if "modules" in request else signal.SIGTERM, parent)
        if "command" in request:
            _become(request)
        return True

    def _ended(self, watch: int, process: int, identity: int) -> None:
        self._selector.unregister(watch)
        os.close(watch)
        _, status = os.waitpid(process, 0)
        _send(self._connection, {"id": identity, "status": os.waitstatus_to_exitcode(status)})


def _become(request: dict[str, Any]) -> None:
    """Give this fork the session, streams and variables of a stage that the driver starts."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nowhere, 0), (request["descriptor"], 1), (request["descriptor"], 2)):
        os.dup2(source, target)
    for spare in {nowhere, request["descriptor"]} - {0, 1, 2}:
        os.close(spare)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a terminal by now
    _replace_environment(request["environment"])
    _replace_environment(of_any_stage())  # as pipeline/seal/start.py does


def _replace_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def _import(modules: Sequence[str]) -> None:
    """Import each `package.module`, or `package.module:name` where a library loads names late."""
    for each in modules:
        module, _, name = each.partition(":")
        # A stage that needs the module reports the error itself.
        with contextlib.suppress(Exception):
            found = importlib.import_module(module)
            if name and not hasattr(found, name):
                importlib.import_module(f"{module}.{name}")


def _threads() -> str | None:
    """Return why forking is unsafe here, None if it is safe: a fork copies one thread alone."""
    count = len(os.listdir("/proc/self/task"))
    return f"the libraries have started {count - 1} threads" if count > 1 else None


def _send(connection: socket.socket, message: dict[str, Any]) -> None:
    try:
        connection.send(json.dumps(message).encode())
    except OSError:
        _exit()


def _exit() -> NoReturn:
    os._exit(0)
