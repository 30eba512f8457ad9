"""What `make repro` runs: `dvc repro`, but dvc.lock gets a stage's entry alone, and by a rename.

After every stage DVC parses all of dvc.lock and writes it anew, in Python and in place: about a
second at 4,300 lines, an eighth of the demonstration's time, and where it is killed meanwhile the
lock is cut short. Here the entry is put, as DVC would write it, in the place of the one before. A
lock whose entries cannot be told apart so simply is written anew. Reads what `dvc repro` reads and
writes what it writes: to the byte in a lock that DVC has written, where floats of 16 digits stay as
they are, which DVC may round when it writes them again.

    python -m pipeline.dvc_support.repro
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import dvc.dvcfile
from dvc.cli import main as run_dvc
from dvc.utils.serialize import dumps_yaml, modify_yaml, parse_yaml, parse_yaml_for_update

from common.files import write_bytes
from pipeline.declared.lockfile import LOCK
from pipeline.dvc_support.plan import ENTRY, entries_are_apart
from pipeline.terminal.command_lines import command_line


def modify_lock() -> Callable[..., AbstractContextManager[dict[str, Any]]]:
    """Return what stands for DVC's `modify_yaml` where the file is dvc.lock."""
    known: tuple[str, dict[str, Any]] = "", {}  # the lock as it was left here, and what it says

    @contextmanager
    def modify(path: str, fs: Any = None) -> Iterator[dict[str, Any]]:
        nonlocal known
        lock = Path(path)
        text = lock.read_text(encoding="utf-8") if lock.exists() else ""
        if not entries_are_apart(text):
            data = parse_yaml_for_update(text, path) or {}
            yield data
            write_bytes(lock, dumps_yaml(data).encode())
            return
        data = known[1] if known[0] == text else parse_yaml(text, path)
        before = dict(data["stages"])
        yield data
        new = {
            name: entry for name, entry in data["stages"].items() if entry is not before.get(name)
        }
        other = {key: value for key, value in data.items() if key != "stages"}
        gone = before.keys() - data["stages"].keys()
        changed = None if gone or other.keys() != {"schema"} else with_entries(text, new)
        if changed is None:  # as DVC does it, comments and order kept
            whole = parse_yaml_for_update(text, path)
            for name in gone:
                del whole["stages"][name]
            whole["stages"].update(new)
            whole.update(other)
            changed = dumps_yaml(whole)
        write_bytes(lock, changed.encode())
        known = changed, data

    return modify


def with_entries(text: str, new: dict[str, Any]) -> str | None:
    """Return a lock's text with `new` entries in place of those of their names, or at the end.

    None where they could not be told apart then.
    """
    for name, entry in new.items():
        block = dumps_yaml({"stages": {name: entry}}).partition("\n")[2]
        found = next((match for match in ENTRY.finditer(text) if match[1] == name), None)
        text = text[: found.start()] + block + text[found.end() :] if found else text + block
    return text if entries_are_apart(text) else None


def _take_back_streams() -> None:
    # DVC replaces them by colorama's when it is imported, which matters on Windows only.
    if type(sys.stdout).__module__.startswith("colorama"):
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def main() -> None:
    _take_back_streams()
    command_line("pipeline.dvc_support.repro", __doc__, changes=True).parse_args()
    for handler in logging.getLogger("dvc").handlers:
        assert isinstance(handler, logging.StreamHandler)  # each of dvc's writes to a stream
        handler.setStream(sys.stderr if handler.level == logging.WARNING else sys.stdout)
    of_lock = modify_lock()
    dvc.dvcfile.modify_yaml = lambda path, fs=None: (
        of_lock if Path(path).name == LOCK else modify_yaml
    )(path, fs=fs)
    sys.exit(run_dvc(["repro"]))


if __name__ == "__main__":
    main()
