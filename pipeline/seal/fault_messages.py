"""Faults of the machine in one line with the way on: a traceback would tell only of the library that met them."""

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
# How libraries without errno say it: safetensors, pyarrow, then numpy and torch, which do not say why.
_SAID = (
    (r"No space left on device", "No space left on device", _SPACE),
    (r"Read-only file system", "Read-only file system", _WRITABLE),
    (
        r"\d+ requested and \d+ written|PytorchStreamWriter failed|unexpected pos \d+ vs \d+|iostream error",
        "a file could not be written to its end, most likely No space left on device",
        _SPACE,
    ),
    (
        r"can't allocate memory|[Oo]ut of memory|Cannot allocate memory|bad_alloc",
        "out of memory",
        _MEMORY,
    ),
)
# The rest may be the seal's refusal once it is closed, and is told as one.
_ANYWHERE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def fault_line(error: BaseException, name: str) -> str | None:
    """Return the line for an error that ends the stage `name`, None where the machine is not to blame."""
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
    """Return the line for an error that comes before the seal is closed, when everything may be opened."""
    where = f": {os.path.relpath(error.filename)}" if error.filename else ""
    what = os.strerror(error.errno) if error.errno else str(error)  # libraries word it themselves
    return f"error: {name}: {what}{where}; {_WAYS_ON.get(error.errno or 0, 'mend it and run dvc repro')}"
