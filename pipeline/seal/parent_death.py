"""Kill this process when its parent dies (Linux), so that SIGKILL leaves no orphans."""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None  # loaded before any fork


def end_with_parent(number: int, parent: int) -> None:
    """Have the kernel send this process signal `number` when its parent, process `parent`, ends.

    Exits if the parent has ended already. "Parent" is the thread that forked this process. The
    setting survives exec. Does nothing on other systems than Linux.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
