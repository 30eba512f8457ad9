"""Merge dvc.lock stage by stage, as git's merge driver (`make hook`).

    python -m pipeline.dvc_support.merge_lock ANCESTOR OURS THEIRS

    changed on neither branch, or equally on both    kept
    changed on one branch                            taken from that branch
    changed differently on both                      dropped: `dvc repro` restores or reruns it

No wrong result can follow, because DVC trusts an entry only if its hashes match the tree. DVC's own
merge driver (`dvc git-hook merge-driver`) handles .dvc files only. Reads the three files, which git
makes from dvc.lock at three revisions. Writes OURS.
"""

import sys
from pathlib import Path

from pipeline.terminal.command_lines import command_line

_HEAD = "schema: '2.0'\nstages:\n"
_EMPTY = "schema: '2.0'\nstages: {}\n"


def merge(ancestor: str, ours: str, theirs: str) -> tuple[str, list[str]]:
    """Return the merged text, and the stages whose entries both sides changed differently.

    Raises ValueError if a text is not laid out as DVC writes dvc.lock.
    """
    before, left, right = map(_entries, (ancestor, ours, theirs))
    merged, dropped = "", []
    for name in dict.fromkeys([*left, *right]):
        base, our, their = (side.get(name, "") for side in (before, left, right))
        if their in (base, our):
            merged += our
        elif our == base:
            merged += their
        else:
            dropped.append(name)
    return (_HEAD + merged if merged else _EMPTY), dropped


def _entries(text: str) -> dict[str, str]:
    """Return the text of each stage's entry; nothing if the branch has no dvc.lock."""
    from pipeline.dvc_support.lock_entries import (
        ENTRY,
        entries_are_apart,
    )  # imports dvc, which takes a second

    if text in ("", _EMPTY):
        return {}
    if not entries_are_apart(text):
        raise ValueError("not laid out as DVC writes it")
    return {match[1]: match[0] for match in ENTRY.finditer(text)}


def main() -> None:
    parser = command_line("pipeline.dvc_support.merge_lock", __doc__, changes=True)
    for name in ("ancestor", "ours", "theirs"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    files = vars(parser.parse_args())
    try:
        texts = [path.read_text(encoding="utf-8") for path in files.values()]
        merged, dropped = merge(*texts)
    except (OSError, ValueError) as error:
        sys.exit(f"error: dvc.lock: cannot be merged ({error}); take one side, then run make repro")
    files["ours"].write_text(merged, encoding="utf-8")
    for name in dropped:
        print(
            f"dvc.lock: both branches changed {name}; its entry is dropped, and make repro "
            "restores or reruns it",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
