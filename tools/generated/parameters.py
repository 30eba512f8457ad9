"""Write docs/parameters.md, the reference of every key of params.yaml (part of `make tables`).

    python -m tools.generated.parameters            writes it
    python -m tools.generated.parameters --check    exits with 1 if it is stale

What a key is, its unit and its bounds come from the sections in model/params. The default is the
value in params.yaml. What an edit reruns comes from dvc.yaml. Reads these. Writes
docs/parameters.md.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from common.errors import PipelineError
from common.files import write_bytes
from common.sections import Section
from common.yaml_file import YamlFault
from model.params.all_sections import Params
from model.params.conditions import Overrides
from pipeline.declared.dvc_yaml import (
    PARAMS,
    below,
    below_key,
    expand,
    keys_of,
    read_mapping,
    read_stages,
)
from pipeline.declared.file_trees import Tree, WorkingTree
from pipeline.terminal.command_lines import command_line

REFERENCE = "docs/parameters.md"
# In a key: any name, such as a task's; any source of `fetch`.
NAME, SOURCE = "NAME", "SOURCE"
_LONGEST_DEFAULT = 72
_PLACE = re.compile(r"\$\{([^}]+)\}")
_INTRODUCTION = """\
# Parameters

Every key of [params.yaml](../params.yaml). `make tables` writes this page from the typed sections
in `model/params` and from `dvc.yaml`; `make lint` fails if it is stale. An unknown, missing or
wrong key stops the stage `params` with one line that names the key.

- **Default** is the demonstration's value. [profiles/](../profiles) has complete files for other
  scales.
- **Allowed** has the type and the bounds that the code enforces.
- **Reruns** has the stages that read the key. The stages after them rerun if one of their inputs
  comes out different. `make impact` lists both for an edit that you have made.
- Any edit of params.yaml, of a comment too, also reruns {of_the_file}: they read the whole file.
- `NAME` stands for a name that you choose.
"""


class Row(NamedTuple):
    """One key of params.yaml, in words."""

    key: str
    about: str
    unit: str
    allowed: str


class Reference(NamedTuple):
    """The rows of each section of params.yaml by name, and those of each kind of source.

    `places` has the keys at which a kind of source may stand.
    """

    sections: dict[str, list[Row]]
    sources: dict[type[Section], list[Row]]
    places: dict[type[Section], list[str]]


def main() -> None:
    parser = command_line("tools.generated.parameters", __doc__, changes=True)
    parser.add_argument(
        "--check", action="store_true", help="change nothing, and exit with 1 if it is stale"
    )
    check = parser.parse_args().check
    tree = WorkingTree(Path.cwd())
    try:
        text = markdown(tree).encode()
        stale = not tree.has(REFERENCE) or tree.read(REFERENCE) != text
    except (OSError, ValueError, KeyError, YamlFault, PipelineError) as error:
        sys.exit(f"error: {REFERENCE} cannot be made: {error}".replace("\n", " "))
    if check and stale:
        sys.exit(
            f"error: {REFERENCE} is not that of params.yaml, model/params and dvc.yaml; "
            "run make tables"
        )
    if stale:
        write_bytes(Path(REFERENCE), text)
        print(f"tables: {REFERENCE}")


def reference(kind: type[Section] = Params) -> Reference:
    """Return the rows of all keys of `kind`.

    Raises ValueError naming a field that has no description.
    """
    found = Reference({}, {}, {})
    for name, field in kind.model_fields.items():
        about(kind, name)  # of a section, which has no row of its own
        first = [] if _sections_in(field.annotation) else [_row(kind, name, name)]
        found.sections[name] = first + list(_below(field.annotation, name, found))
    return found


def about(kind: type[Section], name: str) -> str:
    """Return the description of a field, or else of the section that it is.

    Raises ValueError if there is none.
    """
    field = kind.model_fields[name]
    text = field.description
    if text is None and _is_section(field.annotation):
        text = _docstring(field.annotation)
    if not text:
        raise ValueError(f"{kind.__name__}.{name} has no description; give it one with param()")
    return text


def first_sentence(text: str) -> str:
    """Return a key's comment: the description's first sentence without full stop and backticks."""
    return re.split(r"(?<=[.])\s", text, maxsplit=1)[0].removesuffix(".").replace("`", "")


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _docstring(kind: Any) -> str | None:
    text = vars(kind).get("__doc__")
    return inspect.cleandoc(text) if text else None


def _row(kind: type[Section], name: str, key: str) -> Row:
    field = kind.model_fields[name]
    extra = field.json_schema_extra
    said: dict[str, Any] = extra if isinstance(extra, dict) else {}
    allowed = [allowed_values(field.annotation, field.metadata), said.get("rule", "")]
    return Row(key, about(kind, name), said.get("unit", ""), "; ".join(filter(None, allowed)))


def _rows(kind: type[Section], prefix: str, found: Reference) -> Iterator[Row]:
    for name, field in kind.model_fields.items():
        yield _row(kind, name, f"{prefix}.{name}")
        yield from _below(field.annotation, f"{prefix}.{name}", found)


def _below(kind: Any, key: str, found: Reference) -> Iterator[Row]:
    """Yield the rows of the keys below `key`; a choice of sources goes to `found`."""
    kind = _bare(kind)
    arguments = get_args(kind)
    if _is_section(kind):
        yield from _rows(kind, key, found)
    elif get_origin(kind) is dict:
        yield from _below(arguments[1], f"{key}.{NAME}", found)
    elif get_origin(kind) is list:
        yield from _below(arguments[0], key, found)
    elif _is_union(kind):
        for each in filter(_sections_in, arguments):
            if each not in found.sources:
                found.sources[each] = list(_rows(each, SOURCE, found))
            found.places.setdefault(each, []).append(key)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _sections_in(kind: Any) -> bool:
    """Return whether the keys of a section stand below a value of this type."""
    kind = _bare(kind)
    if _is_section(kind):
        return True
    return any(map(_sections_in, get_args(kind))) if get_origin(kind) is not Literal else False


def allowed_values(kind: Any, metadata: list[Any]) -> str:
    """Return in words which values the type `kind` with pydantic's `metadata` takes.

    `int` with Gt(0) is `whole number > 0`.
    """
    while get_origin(kind) is Annotated:
        kind, *own = get_args(kind)
        metadata = [*metadata, *_flat(own)]
    bounds = _bounds(metadata)
    if _is_union(kind):
        members = [each for each in get_args(kind) if each is not NoneType]
        if any(map(_sections_in, members)):
            kinds = [get_args(each.model_fields["kind"].annotation)[0] for each in members]
            return "a source: " + ", ".join(f"`{each}`" for each in kinds)
        words = " or ".join(allowed_values(each, metadata) for each in members)
        return f"{words}, or null" if NoneType in get_args(kind) else words
    if get_origin(kind) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(kind))
    if get_origin(kind) is list:
        inner = allowed_values(get_args(kind)[0], [])
        return f"list of: {inner}{bounds}" if inner else f"list{bounds}"
    if get_origin(kind) is dict:
        inner = allowed_values(get_args(kind)[1], [])
        return f"names{bounds}, each with a {inner}" if inner else f"names{bounds}"
    plain = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}
    return plain[kind] + bounds if kind in plain else ""


def _flat(metadata: list[Any]) -> Iterator[Any]:
    for each in metadata:
        yield from each.metadata if isinstance(each, FieldInfo) else [each]


def _bounds(metadata: list[Any]) -> str:
    signs = {"gt": "> {:,}", "ge": "≥ {:,}", "lt": "< {:,}", "le": "≤ {:,}"}
    numbers = [
        sign.format(getattr(each, name))
        for name, sign in signs.items()
        for each in metadata
        if getattr(each, name, None) is not None
    ]
    words = f" {' and '.join(numbers)}" if numbers else ""
    for each in metadata:
        if getattr(each, "pattern", None):
            words += f" that matches `{each.pattern}`"
        if type(each).__name__ == "MinLen" and each.min_length > 0:
            words += ", not empty"
    return words


class Reruns:
    """Which stages of dvc.yaml an edit of a key reruns, by what they declare of params.yaml."""

    def __init__(self, tree: Tree):
        self.stages = read_stages(tree)
        self._params = read_mapping(tree, PARAMS)
        # They always write the same bytes, so nothing reruns because of them.
        self._verdicts = {
            name for name, text in self.stages.items() if text.get("meta", {}).get("verdict")
        }

    def of_the_file(self) -> list[str]:
        """Return the stages that depend on the whole file."""
        return [name for name, text in self.stages.items() if PARAMS in text.get("deps", [])]

    def direct(self, key: str) -> list[str]:
        """Return the stages that read `key`, in order; `stage@value` is one instance of several."""
        found = []
        for stage, text in self.stages.items():
            labels = [
                label
                for declared, label in self._declared(stage, text)
                if below_key(key, declared) or below_key(declared, key)
            ]
            found += [stage] if stage in labels else labels
        return found

    def of_section(self, keys: list[str]) -> set[str]:
        """Return the stages that read all `keys`; if there is none, those that read any."""
        direct = [set(self.direct(key)) for key in keys]
        every = set.intersection(*direct) - self._verdicts
        return every or set.union(*direct)

    def for_each(self, key: str) -> list[str]:
        """Return the stages that have an instance for each entry of `key`."""
        return [
            name
            for name, text in self.stages.items()
            if f"${{{key}}}" in text.get("matrix", {}).values()
        ]

    def following(self, stages: set[str]) -> list[str]:
        """Return the stages that depend on outputs of `stages`, directly or not, in order."""
        instances = [
            instance
            for name, text in self.stages.items()
            for instance in expand(name, text, self._params)
        ]
        direct = {name.split("@")[0] for name in stages}
        reached = set(direct)
        while True:
            made = {
                out
                for instance in instances
                if instance.stage in reached - self._verdicts
                for out in instance.outputs
            }
            new = {
                instance.stage
                for instance in instances
                if any(below(dep, out) or below(out, dep) for dep in instance.deps for out in made)
            }
            if new <= reached:
                return [name for name in self.stages if name in reached - direct]
            reached |= new

    def _declared(self, stage: str, text: dict[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the keys of params.yaml that a stage declares or uses, and which instance does."""
        matrix = text.get("matrix", {})
        declared = list(keys_of(text.get("params", [])).get(PARAMS, ()))
        rest = {name: value for name, value in text.items() if name not in ("matrix", "params")}
        used = [each for each in _PLACE.findall(str(rest)) if not each.startswith("item.")]
        for each in [*declared, *used]:
            place = re.search(r"\$\{item\.(\w+)\}", each)
            values = matrix[place[1]] if place else None
            if place and isinstance(values, list):
                for value in values:
                    yield each.replace(place[0], value), f"{stage}@{value}"
            else:
                yield each.replace(place[0], NAME) if place else each, stage


def markdown(tree: Tree) -> str:
    """Return docs/parameters.md for `tree`."""
    params, reruns, found = read_mapping(tree, PARAMS), Reruns(tree), reference()
    parts = [_INTRODUCTION.format(of_the_file=_names(reruns.of_the_file()))]
    for name, rows in found.sections.items():
        text = about(Params, name)
        if [row.key for row in rows] == [name]:
            text = ""  # the table's one row says it
        if text and not _is_section(Params.model_fields[name].annotation):
            text += f" Allowed: {_row(Params, name, name).allowed}."
        parts += [f"\n## {name}\n", text and f"\n{_linked(text)}\n", _overridable(name), "\n"]
        parts.append(_table(rows, params, reruns))
        following = reruns.following(reruns.of_section([row.key for row in rows]))
        if following:
            parts.append(f"\nWhat follows, if outputs come out different: {_names(following)}.\n")
        if name == "fetch":
            parts += _of_sources(found)
    return "".join(parts)


def _overridable(name: str) -> str:
    if name not in Overrides.model_fields:
        return ""
    kind = Params.model_fields[name].annotation
    assert isinstance(kind, type)
    assert issubclass(kind, Section)
    common = [key for key in kind.model_fields if key in kind.COMMON]
    text = f"\nA condition may have its own value of a key, below `conditions.NAME.{name}`"
    return text + (f". All conditions share {_names(common)}.\n" if common else ".\n")


def _table(rows: list[Row], params: dict[str, Any], reruns: Reruns) -> str:
    lines = [
        "| Key | Default | Unit | Allowed | What it is | Reruns |",
        "|---|---|---|---|---|---|",
    ]
    for key, text, unit, allowed in rows:
        stages = _names(reruns.direct(key))
        runs = reruns.for_each(key)
        if runs:
            stages = f"{stages}; each entry has its own {_names(runs)}".removeprefix("; ")
        lines.append(_line(f"`{key}`", default(params, key), unit, allowed, text, stages))
    return "\n".join(lines) + "\n"


def _of_sources(found: Reference) -> list[str]:
    parts = [f"\n### Sources\n\nEach table names the keys that `{SOURCE}` stands for.\n"]
    for kind, rows in found.sources.items():
        places = _names(list(dict.fromkeys(found.places[kind])))
        name = get_args(kind.model_fields["kind"].annotation)[0]
        parts.append(f"\n**`{name}`**, of {places}. {_docstring(kind)}\n\n")
        parts.append("| Key | Allowed | What it is |\n|---|---|---|\n")
        parts += [_line(f"`{row.key}`", row.allowed, row.about) + "\n" for row in rows]
    return parts


def _line(*cells: str) -> str:
    escaped = [" ".join(_linked(cell).split()).replace("|", "\\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def _linked(text: str) -> str:
    """Return a description with its documents as links from docs/."""
    return re.sub(r"\bdocs/(\w+[.]md)", r"[\1](\1)", text)


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def default(params: dict[str, Any], key: str) -> str:
    """Return the value of `key` in params.yaml; of a key with NAME, each name's."""
    values = _values(params, key.split("."), "")
    texts = {name: _yaml(value) for name, value in values.items()}
    if any(isinstance(value, dict) and _is_nested(value) for value in values.values()):
        return ""
    if len(set(texts.values())) == 1:
        [text] = set(texts.values())
        [value, *_] = values.values()
        if len(text) > _LONGEST_DEFAULT and isinstance(value, list):
            return f"{len(value)} entries"
        return f"`{text[:12]}…`" if re.fullmatch("[0-9a-f]{64}", text) else f"`{text}`"
    listed = ", ".join(f"`{name}`: `{text}`" for name, text in texts.items())
    return listed if len(listed) <= 2 * _LONGEST_DEFAULT else f"{len(texts)} values"


def _yaml(value: Any) -> str:
    """Return `value` on one line, as params.yaml may have it."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("...\n").strip()


def _is_nested(value: dict[str, Any]) -> bool:
    return any(isinstance(child, dict) for child in value.values()) or {"kind"} <= value.keys()


def _values(value: Any, parts: list[str], name: str) -> dict[str, Any]:
    """Return the values at a dotted key, by the name that stands in NAME's place."""
    if not parts:
        return {name: value}
    if parts[0] == NAME:
        return {
            found: inner
            for each, child in value.items()
            for found, inner in _values(child, parts[1:], each).items()
        }
    return _values(value[parts[0]], parts[1:], name) if parts[0] in value else {}


if __name__ == "__main__":
    main()
