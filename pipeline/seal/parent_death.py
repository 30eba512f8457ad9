"""A process that ends with its parent (Linux's PR_SET_PDEATHSIG), so that a kill nobody can answer leaves nobody behind."""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None  # loaded before any fork


def end_with_parent(number: int, parent: int) -> None:
    """Have signal `number` sent to this process when `parent`, the id of its parent, ends; exit where it already has.

    The kernel means the thread that started this process. Survives exec. Does nothing on other systems.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
