"""What a stage's inputs are when it starts and when it ends: DVC hashes them only after it has ended."""

import fcntl
import os
import pickle
import signal
import sys
import tempfile
from pathlib import Path

from common.yaml_file import YamlFault
from pipeline.declared.dvc_yaml import Instance, parameter_values
from pipeline.declared.file_trees import WorkingTree

_QUESTION_BYTES = 8


class Witness:
    """A process, forked when this is made, that takes the fingerprints whenever it is asked.

    It has to be outside the confinement to come: a file that an editor or git has replaced meanwhile is a new file, which
    the kernel would not let the stage open. Processes that the stage forks may ask too, one at a time: who asks locks a
    file, which a process that is killed meanwhile lets go of.
    """

    def __init__(self, root: Path, instance: Instance):
        asked, self._ask = os.pipe()
        self._heard, tell = os.pipe()
        self._turn = tempfile.TemporaryFile()  # noqa: SIM115  as long as this process
        sys.stdout.flush()
        self._process = os.fork()
        if self._process == 0:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # the stage's to answer
            for descriptor in (self._ask, self._heard):
                os.close(descriptor)
            try:
                with open(tell, "wb") as pipe:
                    while question := os.read(
                        asked, _QUESTION_BYTES
                    ):  # nothing comes of a stage that has ended
                        pipe.write(question)
                        pickle.dump(_fingerprints_or_none(root, instance), pipe)
                        pipe.flush()
            finally:
                os._exit(0)  # never back into the stage's own code
        os.close(asked)
        os.close(tell)

    def fingerprints(self) -> dict[str, object]:
        """Return what `fingerprints_of` says now; nothing where an input can no longer be read."""
        fcntl.lockf(self._turn, fcntl.LOCK_EX)
        try:
            question = os.urandom(_QUESTION_BYTES)
            os.write(self._ask, question)
            with open(self._heard, "rb", closefd=False) as pipe:
                before = pipe.read(_QUESTION_BYTES)
                while before != question:  # what is left of an answer to somebody who was killed
                    before = before[1:] + pipe.read(1)
                    if len(before) < _QUESTION_BYTES:
                        return {}
                return pickle.load(pipe)  # noqa: S301
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            return {}
        finally:
            fcntl.lockf(self._turn, fcntl.LOCK_UN)

    def dismiss(self) -> None:
        """End it before the stage ends: it shares the lock of the stage's instance."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


def _fingerprints_or_none(root: Path, instance: Instance) -> dict[str, object]:
    try:
        return fingerprints_of(root, instance)
    except (OSError, YamlFault):  # an input that can no longer be read is not what it was
        return {}


def fingerprints_of(root: Path, instance: Instance) -> dict[str, object]:
    """Return what must be the same before and after: bytes of code, sizes and times of data, values of parameters."""
    found: dict[str, object] = {}
    for dep in instance.deps:
        path = root / dep
        if path.is_dir():
            # Python may write a module's bytecode while a stage that depends on all code runs; DVC ignores it too.
            entries = [
                entry
                for entry in sorted(path.rglob("*"))
                if "__pycache__" not in entry.parts and entry.is_file()
            ]
            found[dep] = [
                (str(entry), entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries
            ]
        else:
            found[dep] = path.read_bytes() if path.exists() else None
    return found | parameter_values(WorkingTree(root), instance)
