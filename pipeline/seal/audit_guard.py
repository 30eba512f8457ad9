"""The audit hook of a sealed stage: what it records and what it forbids.

pipeline/seal/sealed_stage.py describes the whole seal. Python calls the hook with an event's name
and arguments before it acts, so an exception from the hook prevents the act:

    open("data/other.bin")              the stage calls
      → hear("open", (path, mode, flags))
        → Guard._opened                 is the path below a dep, or below an out if it is written?
          → SealBroken                  no: the stage ends with one line that names the file
"""

import atexit
import functools
import math
import os
import re
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, NoReturn

from common.files import partial_of
from common.share import Share
from pipeline.declared.code_imports import CODE, WATCHER, is_code
from pipeline.declared.dvc_yaml import PARAMS, Instance, below, pinned_files
from pipeline.seal.fault_messages import fault_line
from pipeline.seal.input_witness import Witness, changed_input, fingerprints_of

_STAT, _LSTAT = os.stat, os.lstat  # as they are before Guard.watch_sizes
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NETWORK_EVENTS = {
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendto",
    "socket.sendmsg",
}
_UNREADABLE = "ran while an input became unreadable; put it back and run the stage again"
# For each event, positions in its arguments: (path, descriptor of the directory that the path is
# relative to). os.rename has two such pairs: source and target.
_CHANGES = {
    "os.chmod": ((0, 2),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
}


class SealBroken(BaseException):
    """A breach of the seal. Not an Exception: a library's `except Exception` must not catch it."""


class Guard:
    """The audit hook's state: one instance's declaration, and what the stage has read of it."""

    def __init__(
        self,
        root: Path,
        instance: Instance,
        scratch: str | None,
        several: bool,
        share: Share | None,
        duration: int | None,
        verdicts: set[str],
    ):
        self._root = str(root)
        self._skipped = (f"{root}/.venv/", sys.prefix + "/")
        self._instance = instance
        self._network, self._several = bool(instance.meta.get("network")), several
        self._share = share
        self._duration, self._started, self._begun = duration, time.monotonic(), math.inf
        self._before = fingerprints_of(root, instance)
        self._witness = Witness(root, instance)
        self._untouched = {dep for dep in instance.deps if not is_code(dep)} - verdicts - {PARAMS}
        self._unread = set(instance.params.get(PARAMS, ()))
        self._broken: list[str] = []
        self._done = self._failed = False
        self._process = os.getpid()
        pinned = [os.path.normpath(path) for path in pinned_files(self._before)]
        self._writable = {
            *instance.outputs,
            *map(partial_of, instance.outputs),
            *filter(None, [scratch]),
        }
        self._readable = {*instance.deps, *pinned, *self._writable}
        self.inputs = [*instance.deps, *pinned]
        self.confined = False  # whether the kernel refuses what is not declared
        self._reading_section = False
        # Python lists the folders of modules when it imports them.
        self._listable = {".", WATCHER} | {
            str(folder)
            for dep in instance.deps
            if is_code(dep)
            for folder in PurePosixPath(dep).parents
        }

    def hook(self) -> Callable[[str, tuple[Any, ...]], None]:
        """Return the audit hook.

        Importing transformers raises 65,000 events, so an event without a handler costs one dict
        look-up and nothing else.
        """
        handlers: dict[str, Callable[[str, tuple[Any, ...]], None]] = {
            "open": self._opened,
            "socket.gethostname": self._asked_for_host,
            "os.listdir": self._listed,
            "os.scandir": self._listed,
            "pipeline.read_section": self._read_section,
            "pipeline.stage_begins": self._begins,
            "pipeline.stage_done": self._ends,
            "pipeline.share_done": self._share_ends,
            "pipeline.piece_done": self._piece_done,
            **dict.fromkeys(_CHANGES, self._changed),
            **dict.fromkeys(_NETWORK_EVENTS, self._connected),
        }
        handler_of = handlers.get

        def hear(event: str, arguments: tuple[Any, ...]) -> None:
            handler = handler_of(event)
            if handler is not None:
                handler(event, arguments)

        return hear

    def _opened(self, event: str, arguments: tuple[Any, ...]) -> None:
        path, _, flags = arguments
        name = self._inside(path)
        if name is None:
            return
        if flags & _WRITING:
            if not self._covers(self._writable, name):
                self._break(f"wrote {name}, which dvc.yaml does not list under this stage's outs")
        elif name == PARAMS and self._reading_section:
            self._reading_section = False  # _read_section has just checked the key
        elif not self._covers(self._readable, name) and not below(
            name, WATCHER
        ):  # Python reads the guard's own source to print a traceback
            full = os.path.join(self._root, name)
            # A missing file is no input, and an open directory is none until it is listed.
            if _is_there(full) and not _is_directory(full):
                self._break(f"read {name}, which dvc.yaml does not list under this stage's deps")

    def _listed(self, event: str, arguments: tuple[Any, ...]) -> None:
        [path] = arguments
        name = self._inside("." if path is None else path)
        if name is None or name in self._listable or self._covers(self._readable, name):
            return
        # A folder that is absent is no input. torch with CUDA looks for its libraries below every
        # entry of sys.path, and the repository's root is one.
        if _is_there(os.path.join(self._root, name)):
            self._break(f"listed {name}, which dvc.yaml does not list under this stage's deps")

    def _changed(self, event: str, arguments: tuple[Any, ...]) -> None:
        for place, folder in _CHANGES[event]:
            if isinstance(arguments[place], int):
                continue  # _opened has checked this descriptor
            name = self._inside(arguments[place], -1 if folder is None else arguments[folder])
            if name is None or self._covers(self._writable, name):
                continue
            if event == "os.mkdir" and any(below(out, name) for out in self._writable):
                continue  # a parent folder of an output
            if event == "os.mkdir" and _is_directory(os.path.join(self._root, name)):
                continue  # changes nothing: torch.compile calls mkdir on the working directory
            if event not in ("os.remove", "os.rmdir") or _is_there(os.path.join(self._root, name)):
                self._break(f"changed {name}, which dvc.yaml does not list under this stage's outs")

    def _asked_for_host(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._network and not self._several:
            self._break("asked for the host's name, which DVC does not track as an input")

    def _connected(self, event: str, arguments: tuple[Any, ...]) -> None:
        first, *rest = arguments
        if self._network or getattr(first, "family", None) == socket.AF_UNIX:
            return
        address = rest[0] if isinstance(first, socket.SocketType) else first
        host = address[0] if isinstance(address, tuple) else address
        self._break(f"used the network ({host!r}); dvc.yaml has no meta: network: true for it")

    def watch_sizes(self) -> None:
        """Stop a stage that reads the size or times of a file that it may not read.

        Python raises no audit event for stat, so `os.stat` and `os.lstat` are wrapped. Imports and
        listings do not go through these two names, so they are not slowed down.
        """

        def watched(ask: Callable[..., os.stat_result]) -> Callable[..., os.stat_result]:
            @functools.wraps(ask)
            def answer(path: Any, *, dir_fd: int | None = None, **options: bool) -> os.stat_result:
                found = ask(path, dir_fd=dir_fd, **options)
                if stat.S_ISREG(found.st_mode) and not isinstance(path, int):
                    self._asked_for_size(path, -1 if dir_fd is None else dir_fd)
                return found

            return answer

        for ask in (os.stat, os.lstat):
            answer = watched(ask)
            for able in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
                if ask in able:  # shutil and others look functions up in these sets
                    able.add(answer)
            setattr(os, ask.__name__, answer)

    def _asked_for_size(self, path: object, folder: int) -> None:
        name = self._inside(path, folder)
        if name is None or name == PARAMS or any(below(name, code) for code in (WATCHER, *CODE)):
            return
        if self._instance.meta.get("checks_params"):
            return  # this stage checks that the files that parameters name exist
        if not any(below(name, allowed) for allowed in self._readable):
            self._break(
                f"asked for the size of {name}, which dvc.yaml does not list under this stage's "
                "deps"
            )

    def _read_section(self, event: str, arguments: tuple[Any, ...]) -> None:
        path, key = arguments
        # A stage with the whole file as a dep may read every section.
        if self._inside(path) != PARAMS or PARAMS in self._instance.deps:
            return
        if key not in self._instance.params.get(PARAMS, ()):
            self._break(
                f"read {key} of {PARAMS}, which dvc.yaml does not list under this stage's params"
            )
        self._unread.discard(key)
        self._reading_section = True

    def _begins(self, event: str, arguments: tuple[Any, ...]) -> None:
        self._begun = time.monotonic()  # imports end here, the stage's own work starts

    def _share_ends(self, event: str, arguments: tuple[Any, ...]) -> None:
        """End a share. It need not read every dep, and `_piece_done` has checked its inputs."""
        if self._broken:  # a library swallowed the exception
            raise SealBroken(self._broken[0])
        self._witness.dismiss()
        self._done = True

    def _ends(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Accept the stage's end only if it read all that is declared and no input has changed.

        The order matters. A breach that a library swallowed comes before deps that were never
        read: the second may follow from the first. The inputs are compared last, since DVC hashes
        them right after this process. The seconds are written only after every check.
        """
        if self._share:
            self._break(f"has no phase {self._share.phase}, which dvc.yaml lists under spreads")
        if self._unread and PARAMS not in self._instance.deps:
            self._break(
                f"never read {', '.join(sorted(self._unread))} of {PARAMS}, which dvc.yaml declares"
            )
        if self._broken:  # a library swallowed the exception
            raise SealBroken(self._broken[0])
        if self._untouched:
            self._break(
                f"never read {', '.join(sorted(self._untouched))}, which dvc.yaml gives it as deps"
            )
        after = self._witness.fingerprints()
        self._witness.dismiss()
        if not after:
            self._break(_UNREADABLE)
        changed = changed_input(self._before, after)
        if changed is not None:
            self._break(
                f"ran while {changed} changed, and DVC would record the new one as what it read; "
                f"run it again, or undo the change and run dvc commit {self._instance.name}"
            )
        self._done = True
        if self._duration is None:
            return
        now = time.monotonic()
        os.ftruncate(self._duration, 0)
        os.pwrite(self._duration, b"%.2f %.2f\n" % (now - self._started, now - self._begun), 0)

    def _piece_done(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Refuse a piece if an input has changed since the stage started.

        Checked for each piece: a resumed run could not see an edit that was reverted meanwhile.
        """
        after = self._witness.fingerprints()
        if not after:
            self._break(_UNREADABLE)
        changed = changed_input(self._before, after)
        if changed is not None:
            self._break(
                f"ran while {changed} changed, so its result belongs to neither version; run it "
                "again"
            )

    def _inside(self, path: Any, folder: int = -1) -> str | None:
        """Return `path` relative to the repository; None outside it and inside the environment.

        `path` may be a descriptor, or relative to the directory open as `folder`. With the
        repository at /repo:

            /repo/data/a.bin    data/a.bin
            /repo               .
            /repo/.venv/x.py    None: libraries are declared by version
            /tmp/x              None
        """
        if isinstance(path, str) and path.startswith(self._skipped) and "/../" not in path:
            return None  # a fast path for libraries' files: most opens are theirs
        try:
            if isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}")
                if not path.startswith("/"):
                    return None  # a pipe or a socket
            elif folder != -1:
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
            full = os.path.abspath(os.fsdecode(path))
        except (OSError, TypeError):
            return None
        if full == self._root:
            return "."
        if not full.startswith(self._root + "/") or full.startswith(self._skipped):
            return None
        return full[len(self._root) + 1 :]

    def _covers(self, allowed: set[str], name: str) -> bool:
        """Return whether `allowed` has `name` or a folder above it; mark that dep as read."""
        while name:
            if name in allowed:
                self._untouched.discard(name)
                return True
            name = os.path.dirname(name)
        return False

    def _break(self, what: str) -> None:
        message = f"{self._instance.name} {what}"
        self._broken.append(message)
        raise SealBroken(message)

    def explain(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Print one line for a broken seal or a machine fault (this is sys.excepthook).

        For other errors, print the traceback, and one more line if the kernel refused a file.
        """
        self._failed = True
        line = (
            f"error: seal: {error}"
            if issubclass(kind, SealBroken)
            else fault_line(error, self._instance.name)
        )
        if line is not None:
            print(line, file=sys.stderr)
            if kind is KeyboardInterrupt:
                raise SystemExit(128 + signal.SIGINT)
            return
        traceback.print_exception(kind, error, trace)
        if not self.confined:
            return
        # Libraries word the kernel's refusal differently (safetensors says "no such file"), but
        # most name the file.
        named = [self._inside(word) for word in re.findall(r"[\w./+-]+", str(error))]
        refused = [
            name
            for name in named
            if name
            and not self._covers(self._readable, name)
            and not _is_directory(name)
            and _is_there(name)
        ]
        if refused or "ermission denied" in str(error) or "os error 13" in str(error):
            what = f"opened {refused[0]}" if refused else "opened a file, or the network,"
            print(
                f"error: seal: {self._instance.name} {what} that dvc.yaml does not give it: "
                f"{error}",
                file=sys.stderr,
            )

    def watch_exit(self) -> None:
        """Exit non-zero if the stage ends before `run_stage` reports success.

        After success, exit at once: the exit handlers of torch and transformers take a quarter of
        a second.
        """
        leave = sys.exit

        def exit_(status: Any = None) -> NoReturn:
            self._failed |= status not in (None, 0)
            leave(status)

        def last() -> None:
            if os.getpid() != self._process or self._failed:
                return
            if not self._done:
                print(
                    f"error: seal: {self._instance.name} ended before run_stage reported success",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0)

        sys.exit = exit_
        atexit.register(last)


def _is_there(path: str) -> bool:
    try:
        _LSTAT(path)
    except (OSError, ValueError):
        return False
    return True


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(_STAT(path).st_mode)
    except (OSError, ValueError):
        return False
