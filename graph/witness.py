"""What a stage's inputs are when it starts and when it ends: DVC hashes them only after it has ended."""

import os
import pickle
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from graph.instances import Instance, parameter_values
from graph.tree import WorkingTree


def witness(root: Path, instance: Instance) -> Callable[[], dict[str, object]]:
    """Return what takes the fingerprints later, from a process that is forked now.

    It has to be outside the confinement to come: a file that an editor or git has replaced meanwhile is a new file, which
    the kernel would not let the stage open.
    """
    asked, ask = os.pipe()
    heard, tell = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stage's to answer
        os.close(ask)
        os.close(heard)
        try:
            if os.read(asked, 1):  # nothing comes of a stage that has died
                with open(tell, "wb") as pipe:
                    pickle.dump(fingerprints_of(root, instance), pipe)
        finally:
            os._exit(0)  # never back into the stage's own code
    os.close(asked)
    os.close(tell)

    def ask_again() -> dict[str, object]:
        os.write(ask, b"?")
        with open(heard, "rb") as pipe:
            content = pipe.read()
        os.waitpid(process, 0)
        # An input that can no longer be read is not what it was.
        return pickle.loads(content) if content else {}  # noqa: S301

    return ask_again


def fingerprints_of(root: Path, instance: Instance) -> dict[str, object]:
    """Return what must be the same before and after: bytes of code, sizes and times of data, values of parameters."""
    found: dict[str, object] = {}
    for dep in instance.deps:
        path = root / dep
        if path.is_dir():
            # Python may write a module's bytecode while a stage that depends on all code runs; DVC ignores it too.
            entries = [entry for entry in sorted(path.rglob("*")) if "__pycache__" not in entry.parts and entry.is_file()]
            found[dep] = [(str(entry), entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries]
        else:
            found[dep] = path.read_bytes() if path.exists() else None
    return found | parameter_values(WorkingTree(root), instance)
