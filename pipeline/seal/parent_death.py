"""Kill this process when its parent dies (Linux), so that SIGKILL leaves no orphans."""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None  # loaded before any fork


def end_with_parent(number: int, parent: int) -> None:
    """Have the kernel send signal `number` to this process when its parent, `parent`, ends.

    Exits if the parent has already ended. To the kernel, "parent" is the thread that forked this
    process, not the whole process. The setting survives exec. Does nothing outside Linux.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        # A parent that ended before the prctl sends no signal; init has adopted this process.
        if os.getppid() != parent:
            os._exit(1)
