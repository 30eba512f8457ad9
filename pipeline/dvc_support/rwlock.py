"""Delete DVC's stale .dvc/tmp/rwlock when no process that it lists is running.

DVC writes it in place, so on a full disk it ends empty. And though DVC forgets who has ended, it
takes whoever has the same number by now, as after a restart of the machine, for the dvc that had
it. Reads the note. Removes it, and writes nothing. A dvc on another machine of a shared disk counts
as none.

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
_HOLDERS = ("dvc", "pipeline.driver")  # in the command lines of those that write it


def remove_untrue(root: Path) -> str | None:
    """Return why the note was removed; None if it is true, absent, or being written."""
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
    except psutil.Error:  # another user's: it may be
        return True


def main() -> None:
    command_line("pipeline.dvc_support.rwlock", __doc__, changes=True).parse_args()
    removed = remove_untrue(Path.cwd())
    if removed:
        print(removed, file=sys.stderr)


if __name__ == "__main__":
    main()
