"""One line for each fault of the machine, with what to do.

A traceback would show only where in a library the disk or the memory ran out.
"""

import errno
import os
import re

_SPACE = "free space and run dvc repro"
_WRITABLE = "make it writable and run dvc repro"
_MEMORY = "free some, lower the batch in params.yaml or take a larger machine, and run dvc repro"
_WAYS_ON = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and run dvc repro",
    errno.EROFS: _WRITABLE,
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EEXIST: "a folder has to be there: move the file away and run dvc repro",
    errno.ENOTDIR: "a folder has to be there: move the file away and run dvc repro",
}
# For libraries that raise without errno: (pattern of their message, what we print, what to do).
# safetensors and pyarrow name the cause; numpy and torch do not.
_SAID = (
    (r"No space left on device", "No space left on device", _SPACE),
    (r"Read-only file system", "Read-only file system", _WRITABLE),
    (
        r"\d+ requested and \d+ written|PytorchStreamWriter failed|unexpected pos \d+ vs \d+"
        r"|iostream error",
        "a file could not be written to its end, most likely No space left on device",
        _SPACE,
    ),
    (
        r"can't allocate memory|[Oo]ut of memory|Cannot allocate memory|bad_alloc",
        "out of memory",
        _MEMORY,
    ),
)
# Once the seal is closed, any other OSError may be a refusal of the seal, so Guard.explain
# reports it.
_ANYWHERE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def fault_line(error: BaseException, name: str) -> str | None:
    """Return the line for an error that ends the stage `name`; None if it is no machine fault."""
    if isinstance(error, KeyboardInterrupt):
        return f"error: {name}: interrupted; what is finished is kept, dvc repro goes on"
    if isinstance(error, MemoryError):
        return f"error: {name}: out of memory; {_MEMORY}"
    if isinstance(error, OSError) and error.errno in _ANYWHERE:
        return set_up_line(error, name)
    for pattern, what, way_on in _SAID:
        if re.search(pattern, str(error)):
            return f"error: {name}: {what}; {way_on}"
    return None


def set_up_line(error: OSError, name: str) -> str:
    """Return the line for an OSError that cannot be a refusal of the seal."""
    where = f": {os.path.relpath(error.filename)}" if error.filename else ""
    # strerror, because libraries word the same errno differently.
    what = os.strerror(error.errno) if error.errno else str(error)
    way_on = _WAYS_ON.get(error.errno or 0, "fix it and run dvc repro")
    return f"error: {name}: {what}{where}; {way_on}"
