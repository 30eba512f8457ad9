"""The keys of params.yaml in words: description, unit and allowed values, from model/params."""

import inspect
import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from common.sections import Section
from model.params.all_sections import Params

# In a key: any name, such as a task's; any source of `fetch`.
NAME, SOURCE = "NAME", "SOURCE"


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


def reference(kind: type[Section] = Params) -> Reference:
    """Return the rows of all keys of `kind`.

    Raises ValueError naming a field that has no description.
    """
    found = Reference({}, {}, {})
    for name, field in kind.model_fields.items():
        about(kind, name)  # of a section, which has no row of its own
        first = [] if _sections_in(field.annotation) else [row_of(kind, name, name)]
        found.sections[name] = first + list(_below(field.annotation, name, found))
    return found


def about(kind: type[Section], name: str) -> str:
    """Return the description of a field, or else of the section that it is.

    Raises ValueError if there is none.
    """
    field = kind.model_fields[name]
    text = field.description
    if text is None and is_section(field.annotation):
        text = docstring(field.annotation)
    if not text:
        raise ValueError(f"{kind.__name__}.{name} has no description; give it one with param()")
    return text


def first_sentence(text: str) -> str:
    """Return a key's comment: the description's first sentence without full stop and backticks."""
    return re.split(r"(?<=[.])\s", text, maxsplit=1)[0].removesuffix(".").replace("`", "")


def is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def docstring(kind: Any) -> str | None:
    text = vars(kind).get("__doc__")
    return inspect.cleandoc(text) if text else None


def row_of(kind: type[Section], name: str, key: str) -> Row:
    field = kind.model_fields[name]
    extra = field.json_schema_extra
    said: dict[str, Any] = extra if isinstance(extra, dict) else {}
    allowed = [allowed_values(field.annotation, field.metadata), said.get("rule", "")]
    return Row(key, about(kind, name), said.get("unit", ""), "; ".join(filter(None, allowed)))


def _rows(kind: type[Section], prefix: str, found: Reference) -> Iterator[Row]:
    for name, field in kind.model_fields.items():
        yield row_of(kind, name, f"{prefix}.{name}")
        yield from _below(field.annotation, f"{prefix}.{name}", found)


def _below(kind: Any, key: str, found: Reference) -> Iterator[Row]:
    """Yield the rows of the keys below `key`; a choice of sources goes to `found`."""
    kind = _bare(kind)
    arguments = get_args(kind)
    if is_section(kind):
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
    if is_section(kind):
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
