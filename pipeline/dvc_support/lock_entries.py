"""Replace single entries in the text of dvc.lock, and rename the new file into place.

After every stage DVC parses all of dvc.lock and writes it again in place. That takes about a second
at 4,300 lines, and a kill in between leaves half a file. Here only the changed entry is formatted,
exactly as DVC would; the text of the others stays. Entries stand in the order in which `dvc repro`
writes them on an empty lock, so a serial and a parallel run leave the same bytes.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

from common.files import write_bytes
from pipeline.declared.lockfile import LOCK

# One entry of dvc.lock as DVC writes it: a name indented by two, then lines indented by four. A
# quoted name does not match, since the quotes would make it another name.
ENTRY = re.compile(r"^  ([\w@][^\s'\"]*):\n(?:    .*\n)+", re.MULTILINE)
HEAD = "schema: '2.0'\nstages:\n"
_LAYOUT = re.compile(rf"{HEAD}(?:{ENTRY.pattern})+", ENTRY.flags)
# A YAML anchor or alias, which may refer to another entry.
_REFERENCE = re.compile(r"^ +(?:- +)*(?:.*: )?[&*]\S", re.MULTILINE)


def entries_are_apart(text: str) -> bool:
    """Return whether the entries of a dvc.lock can be cut apart as text.

    They can if the file is laid out as DVC writes it: one entry after another, nothing else, and no
    entry refers to another.
    """
    return bool(_LAYOUT.fullmatch(text)) and not _REFERENCE.search(text)


class LockEntries:
    """The entries of a dvc.lock that is written many times but parsed once.

    Entries named in `order` come first, in that order.
    """

    def __init__(self, order: Iterable[str] = ()):
        self._order = list(order)
        self._text, self._entries = "", dict[str, str]()

    def with_entries(self, text: str, new: Mapping[str, Any]) -> str:
        """Return the lock's text with the `new` entries replaced or added.

        A text that is not laid out as DVC writes it keeps its comments and its order. An empty text
        is a lock without entries.
        """
        blocks = {
            name: dumps_yaml({"stages": {name: entry}}).partition("\n")[2]
            for name, entry in new.items()
        }
        # YAML may need quotes or anchors for a new entry; such an entry cannot be cut out again.
        apart = all(entries_are_apart(HEAD + block) for block in blocks.values())
        if not apart or not self._is_apart(text):
            return _rewritten(text, new)
        self._entries |= blocks
        names = dict.fromkeys([*self._order, *self._entries])
        self._text = HEAD + "".join(self._entries[name] for name in names if name in self._entries)
        return self._text

    def _is_apart(self, text: str) -> bool:
        """Return whether the entries of `text` are known already, or can be cut apart."""
        if text != self._text:
            if text and not entries_are_apart(text):
                return False
            self._text, self._entries = text, {match[1]: match[0] for match in ENTRY.finditer(text)}
        return True


def with_entries(text: str, new: Mapping[str, Any]) -> str:
    """Return a lock's text with `new` entries, as LockEntries does."""
    return LockEntries().with_entries(text, new)


def _rewritten(text: str, new: Mapping[str, Any]) -> str:
    """Return the lock as DVC rewrites it, comments kept."""
    whole = parse_yaml_for_update(text, LOCK) or {}
    whole.setdefault("schema", "2.0")
    whole["stages"] = whole.get("stages") or {}
    whole["stages"].update(new)
    return str(dumps_yaml(whole))


def rewrite_lock(root: Path, rewritten: Callable[[str], str]) -> None:
    """Replace dvc.lock's text by `rewritten(text)`.

    DVC's own lock is held from reading to writing, so that no change by another dvc is lost.
    """
    with Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
        replace_text(root / LOCK, rewritten)


def replace_text(lock: Path, rewritten: Callable[[str], str]) -> None:
    """Replace a lock's text by `rewritten(text)`, by a rename; the caller holds DVC's lock."""
    text = lock.read_text(encoding="utf-8") if lock.exists() else ""
    if (new := rewritten(text)) != text:
        write_bytes(lock, new.encode())
