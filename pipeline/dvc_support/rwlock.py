"""Delete DVC's stale .dvc/tmp/rwlock when no process that it lists is running.

DVC keeps the process ids of running dvc commands in this file. It goes stale in two ways:
- DVC writes the file in place, so a full disk leaves it empty.
- DVC drops ids of processes that have ended. After a restart another program may have the same id,
  and DVC then waits for that program.

A dvc that runs on another machine, over a shared disk, is not seen. Reads the file, and removes it
if it is stale. Writes nothing.

    python -m pipeline.dvc_support.rwlock
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import zc.lockfile

from pipeline.terminal.command_lines import command_line

RWLOCK = Path(".dvc/tmp/rwlock")
_HOLDERS = ("dvc", "pipeline.driver")  # parts of the command lines of processes that write it


def remove_untrue(root: Path) -> str | None:
    """Remove the file if it is stale; return the reason, or None if it stays or is absent."""
    path = root / RWLOCK
    if not path.exists():
        return None
    try:
        lock = zc.lockfile.LockFile(f"{path}.lock")
    except (zc.lockfile.LockError, OSError):
        return None
    try:
        reason = _untrue(path.read_bytes())
        if reason:
            path.unlink()
    finally:
        lock.close()
    return reason and f"{RWLOCK} is removed: {reason}"


def _untrue(content: bytes) -> str | None:
    try:
        numbers = list(_processes(content))
        running = any(map(_is_dvc, numbers))
    except (AttributeError, KeyError, TypeError, ValueError):
        return "it is not whole, as a full disk leaves it"
    return "nothing that it names is running" if numbers and not running else None


def _processes(content: bytes) -> Iterator[int]:
    note = json.loads(content)
    yield from (holder["pid"] for holder in note.get("write", {}).values())
    yield from (holder["pid"] for holders in note.get("read", {}).values() for holder in holders)


def _is_dvc(process: int) -> bool:
    try:
        words = psutil.Process(process).cmdline()
        return any(holder in word for holder in _HOLDERS for word in words)
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # another user's process; it may be a dvc
        return True


def main() -> None:
    command_line("pipeline.dvc_support.rwlock", __doc__, changes=True).parse_args()
    removed = remove_untrue(Path.cwd())
    if removed:
        print(removed, file=sys.stderr)


if __name__ == "__main__":
    main()
