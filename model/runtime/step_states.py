"""The states of a training run: pieces named by step. A run resumes from the newest usable one."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from common.errors import PipelineError
from model.runtime.resumable import complete_piece, piece, verified_piece

# Two, so that a damaged state costs the steps between them, not the whole run.
_KEPT = 2

Found = TypeVar("Found")


class States(NamedTuple):
    """States in the scratch folder `scratch`, named by `prefix` and step: `states/step_200`.

    `machine` is the hardware of this run. Messages begin with `label`.
    """

    scratch: Path
    prefix: str
    machine: str
    label: str

    def keep(self, step: int, make: Callable[[Path], None]) -> None:
        """Write the state of `step` with `make`, which fills a directory; remove old states."""
        piece(self.scratch, f"{self.prefix}{step}", make, self.machine)
        self._remove_old()

    def complete(self, step: int) -> None:
        """Make the directory that a library has written for `step` a state; remove old states."""
        complete_piece(self.scratch, f"{self.prefix}{step}", self.machine)
        self._remove_old()

    def newest(self, read: Callable[[int, Path], Found]) -> Found | None:
        """Return `read(step, directory)` of the newest usable state, None if there is none.

        A state is unusable if it is damaged or of other work, or if `read` raises PipelineError or
        OSError. An unusable state is named in a warning and removed. Another warning appears if the
        state was written on other hardware.
        """
        for step in steps_of(self.scratch, self.prefix):
            # From the newest step to the oldest.
            directory = self.scratch / f"{self.prefix}{step}"
            try:
                work = verified_piece(self.scratch, f"{self.prefix}{step}")
                found = read(step, directory)
            except (PipelineError, OSError) as error:
                reason = "; ".join(str(error).splitlines())
                self._say(f"warning: {self.label}: {directory.name} is not used: {reason}")
                shutil.rmtree(directory, ignore_errors=True)
                continue
            # Only a warning: the run stays valid, but is no longer the same bit for bit.
            if work.machine != self.machine:
                self._say(
                    f"warning: {self.label}: began on {work.machine}, resumes on {self.machine}: "
                    "the last bits may differ"
                )
            self._say(f"{self.label}: resumes from step {step}")
            return found
        return None

    def _remove_old(self) -> None:
        for step in steps_of(self.scratch, self.prefix)[_KEPT:]:
            shutil.rmtree(self.scratch / f"{self.prefix}{step}")

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def steps_of(scratch: Path, prefix: str) -> list[int]:
    """Return the steps of the pieces whose names begin with `prefix`, the last step first."""
    # `prefix` may contain a folder: "states/step_" lists the folder `states`.
    start = scratch / prefix
    names = [path.name for path in start.parent.glob(f"{start.name}*")]
    steps = [name.removeprefix(start.name) for name in names]
    return sorted((int(step) for step in steps if step.isdecimal()), reverse=True)
