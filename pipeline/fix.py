"""Write into dvc.yaml the lines that `make check` prints; comments and layout stay.

yaml.compose gives the row and column of each entry. The edits are then made in the text itself, row
by row, since a YAML writer would drop the comments.
"""

from collections import defaultdict
from typing import NamedTuple, TypeVar

import yaml

from pipeline.declared.code_imports import is_code
from pipeline.declared.dvc_yaml import GRAPH

Collection = TypeVar("Collection", yaml.MappingNode, yaml.SequenceNode)


class Line(NamedTuple):
    """An entry to add to one list of dvc.yaml (`missing`), or to remove from it.

    The list is `stages.STAGE.KEY`. With `file`, it is that file's list of keys in the stage's
    `params`. `why` explains the line to a person.
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
    """A list is not laid out with one entry per line."""


def edited(text: str, lines: list[Line]) -> tuple[str, list[Line]]:
    """Return dvc.yaml's `text` with `lines` applied, and the lines that could not be.

    A list in brackets is edited in its row. One over several rows is left as it is.
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
    """Apply the lines of one list, which may be written in any of these ways.

    The key is missing; [a, b] in one row; one entry per row. With a file, the list of its keys is
    nested in the list `params`:

        params:
          - corpus
          - libraries.yaml: [corpus]
    """
    rows = text.splitlines(keepends=True)
    stages = _value(yaml.compose(text, yaml.SafeLoader), "stages")
    stage = _block(_value(stages, group[0].stage), yaml.MappingNode)
    removed = {line.entry for line in group if not line.missing}
    added = sorted(line.entry for line in group if line.missing)
    _, key, file = group[0][:3]
    written = _value(stage, key)
    if written is None:
        return "".join(_with_new_list(rows, stage, key, file, added))
    if isinstance(written, yaml.SequenceNode) and written.flow_style:
        if written.start_mark.line != written.end_mark.line:
            raise _Unwritable
        if file is None:
            return "".join(_with_bracketed(rows, written, removed, added))
        return "".join(_with_bracketed_keys(rows, written, file, removed, added))
    entries = _block(written, yaml.SequenceNode)
    if file is None:
        return "".join(_with_entries(rows, stage, key, entries, removed, added))
    found = [(item, _value(item, file)) for item in entries.value if _value(item, file)]
    if not found:
        item = f"{' ' * _dash(rows, entries)}- {file}: [{', '.join(added)}]\n"
        rows.insert(_last_row(entries) + 1, item)
        return "".join(rows)
    [(item, listed)] = found
    if not isinstance(listed, yaml.SequenceNode):
        raise _Unwritable
    if not added and {each.value for each in listed.value} <= removed:
        if len(entries.value) == 1:
            return "".join(_without(rows, _key(stage, key), entries))
        return "".join(_without(rows, item, item))
    if listed.flow_style:
        if listed.start_mark.line != listed.end_mark.line:
            raise _Unwritable
        return "".join(_with_bracketed(rows, listed, removed, added))
    keys = _block(listed, yaml.SequenceNode)
    return "".join(_with_entries(rows, item, file, keys, removed, added))


def _with_entries(
    rows: list[str],
    parent: yaml.MappingNode,
    key: str,
    entries: yaml.SequenceNode,
    removed: set[str],
    added: list[str],
) -> list[str]:
    """Remove and add plain entries; remove the key too if the list becomes empty."""
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


def _with_bracketed(
    rows: list[str], entries: yaml.SequenceNode, removed: set[str], added: list[str]
) -> list[str]:
    """Remove and add plain entries of a list in brackets, which must stand on one row.

    New entries come after the plain ones: [corpus, libraries.yaml: [corpus]] has one plain entry.
    """
    kept = [item for item in entries.value if _name(item) not in removed]
    plain = [item for item in kept if isinstance(item, yaml.ScalarNode)]
    after = kept.index(plain[-1]) + 1 if plain else 0
    texts = [_source(rows, item) for item in kept]
    # In brackets, the { of ${item.name} would open a mapping.
    new = [f'"{entry}"' if "{" in entry else entry for entry in added]
    return _with_row(rows, entries, [*texts[:after], *new, *texts[after:]])


def _with_bracketed_keys(
    rows: list[str], entries: yaml.SequenceNode, file: str, removed: set[str], added: list[str]
) -> list[str]:
    """Remove and add keys of `file` in a list in brackets, [corpus, libraries.yaml: [corpus]]."""
    texts = []
    names = set(added)
    for item in entries.value:
        keys = _value(item, file)
        if keys is None:
            texts.append(_source(rows, item))
        elif isinstance(keys, yaml.SequenceNode):
            names |= {_name(each) for each in keys.value}
        else:
            raise _Unwritable
    if names - removed:
        texts.append(f"{file}: [{', '.join(sorted(names - removed))}]")
    return _with_row(rows, entries, texts)


def _with_row(rows: list[str], entries: yaml.SequenceNode, texts: list[str]) -> list[str]:
    """Replace a list in brackets by `texts`; remove its row if there are none."""
    start, end = entries.start_mark, entries.end_mark
    row = rows[start.line]
    if not texts:
        return rows[: start.line] + rows[end.line + 1 :]
    new = f"{row[: start.column]}[{', '.join(texts)}]{row[end.column :]}"
    return [*rows[: start.line], new, *rows[start.line + 1 :]]


def _source(rows: list[str], node: yaml.Node) -> str:
    start, end = node.start_mark, node.end_mark
    return rows[start.line][start.column : end.column].strip()


def _name(node: yaml.Node) -> str:
    return node.value if isinstance(node, yaml.ScalarNode) else ""


def _place(
    rows: list[str], entries: yaml.SequenceNode, plain: list[yaml.ScalarNode], entry: str
) -> int:
    """Return the row before which `entry` belongs.

    Code is sorted, and comes after data, whose order a person has chosen.
    """
    like = [item for item in plain if is_code(item.value) == is_code(entry)]
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
    entries = added if file is None else [f"{file}: [{', '.join(added)}]"]
    new += [f"{indent}  - {entry}\n" for entry in entries]
    command = _value(stage, "cmd")
    assert command is not None  # read_stages requires cmd
    place = _last_row(command) + 1
    return [*rows[:place], *new, *rows[place:]]


def _without(rows: list[str], first: yaml.Node, last: yaml.Node) -> list[str]:
    return rows[: first.start_mark.line] + rows[_last_row(last) + 1 :]


def _value(mapping: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = mapping.value if isinstance(mapping, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _key(mapping: yaml.MappingNode, key: str) -> yaml.Node:
    names: list[yaml.Node] = [name for name, _ in mapping.value if name.value == key]
    return names[0]


def _block(node: yaml.Node | None, kind: type[Collection]) -> Collection:
    """Return `node` if it is a non-empty collection of `kind`, written without brackets."""
    if not isinstance(node, kind) or node.flow_style or not node.value:
        raise _Unwritable
    return node


def _dash(rows: list[str], entries: yaml.SequenceNode) -> int:
    first: yaml.Node = entries.value[0]
    return rows[first.start_mark.line].index("-")


def _last_row(node: yaml.Node) -> int:
    """Return the last row that has text of `node`."""
    if isinstance(node, yaml.ScalarNode):
        return (
            node.end_mark.line
            if node.style is None
            else max(node.start_mark.line, node.end_mark.line - (node.style in "|>"))
        )
    parts = [part for each in node.value for part in (each if isinstance(each, tuple) else (each,))]
    return max((_last_row(part) for part in parts), default=node.start_mark.line)
