"""What `make repro` runs: `dvc repro`, but dvc.lock gets a stage's entry alone, and by a rename.

After every stage DVC parses all of dvc.lock and writes it anew, in Python and in place: about a second at 4,300 lines, an eighth
of the demonstration's time, and where it is killed meanwhile the lock is cut short. Here the entry is put, as DVC would write
it, in the place of the one before. A lock that would not say what DVC means is left to DVC.
Reads what `dvc repro` reads and writes what it writes, to the byte.

    python -m graph.dvc_repro
"""

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import dvc.dvcfile
from dvc.cli import main as run_dvc
from dvc.utils.serialize import dumps_yaml, loads_yaml, parse_yaml

from graph.lock import LOCK
from graph.plan import ENTRY
from graph.usage import command_line
from model.files import write_bytes

_LAYOUT = re.compile(rf"schema: '2.0'\nstages:\n(?:{ENTRY.pattern})*", ENTRY.flags)
Modify = Callable[..., AbstractContextManager[dict[str, Any]]]


def by_entry(whole: Modify) -> Modify:
    """Return what stands for DVC's `modify_yaml`, which is `whole`."""

    known: tuple[str, dict[str, Any]] | None = None  # the lock as it was left here, and what it says

    @contextmanager
    def modify(path: str, fs: Any = None) -> Iterator[dict[str, Any]]:
        if Path(path).name != LOCK or not Path(path).exists():
            with whole(path, fs=fs) as data:
                yield data
            return
        nonlocal known
        text = Path(path).read_text(encoding="utf-8")
        data = known[1] if known and known[0] == text else parse_yaml(text, path)
        before = {**data, "stages": dict(data.get("stages") or {})}
        yield data
        new = {name: entry for name, entry in data["stages"].items() if entry is not before["stages"].get(name)}
        changed = with_entries(text, new)
        if changed and data == {**before, "stages": {**before["stages"], **new}}:
            write_bytes(Path(path), changed.encode())
            known = changed, data
            return
        with whole(path, fs=fs) as other:
            other.clear()
            other.update(data)

    return modify


def with_entries(text: str, new: dict[str, Any]) -> str | None:
    """Return the text of a lock with `new` entries in the place of those of their names, or behind all.

    None unless the lock is laid out as DVC does, one entry after another and nothing else, and each new one says what it should.
    """
    for name, entry in new.items():
        written = dumps_yaml({"stages": {name: entry}})
        if loads_yaml(written) != {"stages": {name: entry}}:
            return None
        block = written.partition("\n")[2]
        found = next((match for match in ENTRY.finditer(text) if match[1] == name), None)
        text = text[: found.start()] + block + text[found.end() :] if found else text + block
    return text if _LAYOUT.fullmatch(text) else None


def main() -> None:
    command_line("graph.dvc_repro", __doc__).parse_args()
    dvc.dvcfile.modify_yaml = by_entry(dvc.dvcfile.modify_yaml)
    sys.exit(run_dvc(["repro"]))


if __name__ == "__main__":
    main()
