"""Write into dvc.yaml the lines that `make check` asks for; comments and layout stay as they are."""

from collections import defaultdict
from typing import NamedTuple

import yaml

from pipeline.declared.dvc_yaml import GRAPH


class Line(NamedTuple):
    """An entry that one list of dvc.yaml lacks (`missing`), or has and must not have.

    The list is `stages.STAGE.KEY`; with `file`, the list of keys of that file in the stage's
    `params`. `why` explains it to a person.
    """

    stage: str
    key: str
    file: str | None
    entry: str
    missing: bool
    why: str = ""

    def __str__(self) -> str:
        place = f"{self.key}: {self.file}" if self.file else self.key
        action = "add" if self.missing else "remove"
        why = f"  ({self.why})" if self.why else ""
        return f"{GRAPH}: {self.stage}: {place}: {action} the line      - {self.entry}{why}"


class _Unwritable(Exception):
    """A list that is not laid out one entry a line."""


def edited(text: str, lines: list[Line]) -> tuple[str, list[Line]]:
    """Return dvc.yaml's `text` with `lines` carried out, and those that could not be.

    A list in brackets is left as it is: it has no lines to add or remove.
    """
    groups: dict[tuple[str, str, str | None], list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.stage, line.key, line.file].append(line)
    left = []
    for group in groups.values():
        try:
            text = _with_group(text, group)
        except _Unwritable:
            left += group
    return text, left


def _with_group(text: str, group: list[Line]) -> str:
    """Carry out lines of one list."""
    rows = text.splitlines(keepends=True)
    stage = _value(_value(yaml.compose(text, yaml.SafeLoader), "stages"), group[0].stage)
    _require_block(stage)
    removed = {line.entry for line in group if not line.missing}
    added = sorted(line.entry for line in group if line.missing)
    _, key, file = group[0][:3]
    entries = _value(stage, key)
    if entries is None:
        return "".join(_with_new_list(rows, stage, key, file, added))
    _require_block(entries)
    if file is None:
        return "".join(_with_entries(rows, stage, key, entries, removed, added))
    found = [(item, _value(item, file)) for item in entries.value if _value(item, file)]
    if not found:
        item = [f"- {file}:\n", *(f"    - {entry}\n" for entry in added)]
        place = _last_row(entries) + 1
        rows[place:place] = [" " * _dash(rows, entries) + row for row in item]
        return "".join(rows)
    [(item, keys)] = found
    _require_block(keys)
    if not added and {each.value for each in keys.value} <= removed:
        if len(entries.value) == 1:
            return "".join(_without(rows, _key(stage, key), entries))
        return "".join(_without(rows, item, item))
    return "".join(_with_entries(rows, item, file, keys, removed, added))


def _with_entries(
    rows: list[str],
    parent: yaml.MappingNode,
    key: str,
    entries: yaml.SequenceNode,
    removed: set[str],
    added: list[str],
) -> list[str]:
    """Remove and add plain entries; a list that becomes empty goes with its key."""
    plain = [item for item in entries.value if isinstance(item, yaml.ScalarNode)]
    gone = {item.start_mark.line for item in plain if item.value in removed}
    if not added and len(gone) == len(entries.value):
        return _without(rows, _key(parent, key), entries)
    indent = " " * _dash(rows, entries)
    new: dict[int, list[str]] = defaultdict(list)
    for entry in added:
        new[_place(rows, entries, plain, entry)].append(f"{indent}- {entry}\n")
    changed = []
    for number in range(len(rows) + 1):
        changed += new[number]
        if number < len(rows) and number not in gone:
            changed.append(rows[number])
    return changed


def _place(
    rows: list[str], entries: yaml.SequenceNode, plain: list[yaml.ScalarNode], entry: str
) -> int:
    """Return the number of the row before which `entry` belongs: sorted among its like.

    Modules and folders of code come after data, which have an order of their own.
    """
    top = entry.partition("/")[0]
    like = [item for item in plain if item.value.partition("/")[0] == top] or plain
    after = [item.start_mark.line for item in like if item.value > entry]
    if not after:
        return (like[-1].start_mark.line if like else _last_row(entries)) + 1
    place = after[0]
    while rows[place - 1].lstrip().startswith("#"):
        place -= 1
    return place


def _with_new_list(
    rows: list[str], stage: yaml.MappingNode, key: str, file: str | None, added: list[str]
) -> list[str]:
    """Add the list `key` below the stage's command."""
    if not added:
        return rows
    indent = " " * stage.value[0][0].start_mark.column
    new = [f"{indent}{key}:\n"]
    if file is not None:
        new.append(f"{indent}  - {file}:\n")
    deeper = "  " if file is None else "      "
    new += [f"{indent}{deeper}- {entry}\n" for entry in added]
    place = _last_row(_value(stage, "cmd")) + 1
    return [*rows[:place], *new, *rows[place:]]


def _without(rows: list[str], first: yaml.Node, last: yaml.Node) -> list[str]:
    return rows[: first.start_mark.line] + rows[_last_row(last) + 1 :]


def _value(mapping: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = mapping.value if isinstance(mapping, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _key(mapping: yaml.MappingNode, key: str) -> yaml.Node:
    return next(name for name, _ in mapping.value if name.value == key)


def _require_block(node: yaml.Node | None) -> None:
    if not isinstance(node, yaml.CollectionNode) or node.flow_style or not node.value:
        raise _Unwritable


def _dash(rows: list[str], entries: yaml.SequenceNode) -> int:
    return rows[entries.value[0].start_mark.line].index("-")


def _last_row(node: yaml.Node) -> int:
    """Return the number of the last row that `node` has text in."""
    if isinstance(node, yaml.ScalarNode):
        return (
            node.end_mark.line
            if node.style is None
            else max(node.start_mark.line, node.end_mark.line - (node.style in "|>"))
        )
    parts = [part for each in node.value for part in (each if isinstance(each, tuple) else (each,))]
    return max((_last_row(part) for part in parts), default=node.start_mark.line)
