"""Compare a stage's inputs at its start and at its end: DVC hashes them only afterwards."""

import fcntl
import os
import pickle
import signal
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

from common.yaml_file import YamlFault
from pipeline.declared.dvc_yaml import Instance, parameter_values
from pipeline.declared.file_trees import WorkingTree
from pipeline.seal.input_contents import known_by

_QUESTION_BYTES = 8


class Witness:
    """A process that reads the inputs on request, forked before the stage is confined.

    It stays outside the confinement. An editor and git replace a file by a new one, which Landlock
    does not let the stage open.

    Processes that the stage forks may ask too. One request:

        1. The asking process locks the file `_turn`. If it is killed, the kernel unlocks the file.
        2. It writes 8 random bytes, the question, to the first pipe.
        3. The witness writes the question and then the answer, a pickle, to the second pipe.
        4. The asking process reads until it finds its question. What comes before it is the rest
           of an answer to a process that was killed:  …rest of an old answer | question | pickle
        5. It reads the pickle and unlocks the file.
    """

    def __init__(self, root: Path, instance: Instance):
        questions, self._ask = os.pipe()
        self._answers, answer = os.pipe()
        self._turn = tempfile.TemporaryFile()  # noqa: SIM115  open as long as this process lives
        sys.stdout.flush()
        self._process = os.fork()
        if self._process == 0:
            os.close(self._ask)
            os.close(self._answers)
            _serve(root, instance, questions, answer)
        os.close(questions)
        os.close(answer)

    def fingerprints(self) -> dict[str, object]:
        """Return `fingerprints_of` of now; empty if an input cannot be read any more."""
        fcntl.lockf(self._turn, fcntl.LOCK_EX)
        try:
            question = os.urandom(_QUESTION_BYTES)
            os.write(self._ask, question)
            return self._answer_to(question)
        except (BrokenPipeError, EOFError, pickle.UnpicklingError):
            return {}
        finally:
            fcntl.lockf(self._turn, fcntl.LOCK_UN)

    def _answer_to(self, question: bytes) -> dict[str, object]:
        with open(self._answers, "rb", closefd=False) as pipe:
            found = pipe.read(_QUESTION_BYTES)
            while found != question:
                found = found[1:] + pipe.read(1)
                if len(found) < _QUESTION_BYTES:
                    raise EOFError
            fingerprints: dict[str, object] = pickle.load(pipe)  # noqa: S301
            return fingerprints

    def dismiss(self) -> None:
        """End the process before the stage ends: it holds the lock of the stage's instance."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)


def _serve(root: Path, instance: Instance, questions: int, answer: int) -> NoReturn:
    """Answer questions until every process that could ask has ended."""
    try:
        # These signals go to the whole process group; the stage acts on them.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        with open(answer, "wb") as pipe:
            while question := os.read(questions, _QUESTION_BYTES):
                pipe.write(question)
                pickle.dump(_fingerprints_or_nothing(root, instance), pipe)
                pipe.flush()
    finally:
        # Never return: the caller's frames are the stage's.
        os._exit(0)


def _fingerprints_or_nothing(root: Path, instance: Instance) -> dict[str, object]:
    try:
        return fingerprints_of(root, instance)
    except (OSError, YamlFault):
        return {}


def fingerprints_of(root: Path, instance: Instance) -> dict[str, object]:
    """Return what must not change during a run: inputs' contents and parameters' values."""
    found: dict[str, object] = {}
    for dep in instance.deps:
        found |= known_by(root, dep)
    return found | parameter_values(WorkingTree(root), instance)


def changed_input(before: dict[str, object], after: dict[str, object]) -> str | None:
    """Return the first input that was changed, added or removed; None if there is none."""
    return next((name for name in {**before, **after} if before.get(name) != after.get(name)), None)
