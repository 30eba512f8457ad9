"""Typed sections of params.yaml. An unknown key, a missing key or a wrong type is an error."""

import json
import sys
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from common.errors import PipelineError, printable
from common.yaml_file import old_reading, plain_value, read_yaml, shown

PARAMS_FILE = Path("params.yaml")
# Characters of a text that is checked for another meaning in YAML 1.1.
_LONGEST_WORD = 80


class Section(BaseModel):
    """Base of every section: no unknown keys, no type conversion, no change after reading.

    `COMMON` are the keys that conditions cannot override: all conditions share their values.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    COMMON: ClassVar[frozenset[str]] = frozenset()


def param(about: str, *, unit: str = "", rule: str = "", **bounds: Any) -> Any:
    """Return the field of one key of params.yaml, with what docs/parameters.md states of it.

    The first sentence of `about` is the key's comment in params.yaml. `bounds` are pydantic's (gt,
    ge, lt, le, min_length, pattern). `rule` is for people: a bound that these do not express,
    such as one that depends on other keys.
    """
    return Field(description=about, json_schema_extra={"unit": unit, "rule": rule}, **bounds)


T = TypeVar("T")
S = TypeVar("S", bound=Section)


def read_section(key: str, kind: type[T], path: Path = PARAMS_FILE) -> T:
    """Return the value of the YAML file `path` under the dotted `key`, validated as `kind`.

    `kind` is a Section or any annotated type. Raises PipelineError with one line per fault, which
    names the key and the rule that it breaks.
    """
    return validate(_value(key, path), kind, path, key)


def read_overridden(key: str, override: str, kind: type[S], path: Path = PARAMS_FILE) -> S:
    """Return the section `key` with the values under the dotted key `override` in place of its own.

    Raises PipelineError as `read_section` does. A fault of the override is named by the override's
    key.
    """
    base, values = _value(key, path), _value(override, path)
    # The section itself must be valid, or its faults would be blamed on the override.
    validate(base, kind, path, key)
    return validate_overridden(base, values, kind, path, override)


def validate_overridden(base: Any, values: Any, kind: type[S], path: Path, override: str) -> S:
    """Return the valid section `base` with `values` in place of its own, validated as `kind`.

    `override` is the dotted key of `values`, such as conditions.wide.model. Raises PipelineError,
    whose lines begin with that key, also for a key that all conditions share.
    """
    for name in sorted(kind.COMMON & validate(values, dict[str, Any], path, override).keys()):
        raise PipelineError(
            f"{path}: {override}.{name}: all conditions have one {name}; remove it here, and set "
            f"{override.rpartition('.')[2]}.{name}"
        )
    return validate(overridden(base, values), kind, path, override)


def overridden(base: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with `values` in place of its own; nested values are replaced, not merged."""
    return {**base, **values}


def _value(key: str, path: Path) -> Any:
    """Return the value under a dotted key; raise PipelineError if it is missing."""
    # The seal compares the keys that a stage reads with those that dvc.yaml lists.
    sys.audit("pipeline.read_section", str(path), key)
    value: Any = read_yaml(path)
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise PipelineError(f"{path}: {key}: missing; profiles/ holds complete examples")
        value = value[part]
    return value


def read_json(path: Path, kind: type[T]) -> T:
    """Return the JSON file `path` validated as `kind`, or raise PipelineError as `read_section`."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise PipelineError(f"{path}: cannot be read ({error})") from None
    return validate(value, kind, path)


def validate(value: Any, kind: type[T], path: Path, key: str = "") -> T:
    """Return `value` as `kind`; raise PipelineError with one line per fault found by pydantic."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        faults: list[Any] = error.errors()
        raise PipelineError("\n".join(_line(fault, path, key) for fault in faults)) from None


# Words for faults that pydantic describes in Python's terms.
_KINDS = {
    "dict_type": "Input should be a mapping of keys to values",
    "list_type": "Input should be a list",
    "model_attributes_type": "Input should be a mapping of keys to values",
    "model_type": "Input should be a mapping of keys to values",
}
# Faults where a text in the file may be meant as a number, a truth value or a collection.
_NOT_TEXT = {"bool_type", "float_type", "int_type", "dict_type", "list_type"}


def _line(fault: dict[str, Any], path: Path, key: str) -> str:
    """Return one of pydantic's faults as a line: "params.yaml: model.width: missing; …"."""
    # "[key]" is pydantic's name for a fault in a key itself.
    location = ".".join(
        printable(str(part)) for part in (key, *fault["loc"]) if part not in ("", "[key]")
    )
    kind, value, is_yaml = fault["type"], fault["input"], path.suffix == ".yaml"
    message = _KINDS.get(kind, fault["msg"].removeprefix("Value error, "))
    if kind == "extra_forbidden":
        message = "unknown key; remove it or correct its spelling"
    elif kind == "missing":
        message = "missing; profiles/ holds complete examples" if is_yaml else "missing"
    elif is_yaml and kind in _NOT_TEXT and isinstance(value, str):
        message += f", not the text {shown(value)}{_hint(value, kind)}"
    elif is_yaml and value is None:
        message = (
            "empty; profiles/ holds complete examples"
            if not location
            else f"{message}, got null (nothing)"
        )
    elif kind in _KINDS or not isinstance(value, dict | list):
        message += f", got {shown(value)}"
    return f"{path}: {location or 'top level'}: {printable(message)}"


def _hint(text: str, kind: str) -> str:
    """Return why a text is not the number, truth value or null that it looks like, or "".

    Examples: quotes around 10, and `off`, which only YAML 1.1 reads as false.
    """
    try:
        plain = plain_value(text)
    except ValueError:
        return ""
    if not isinstance(plain, str):
        return "; in quotes it is text: remove the quotes"
    old = old_reading(text) if len(text) <= _LONGEST_WORD else text
    if isinstance(old, str):
        return ""
    wanted = (
        bool if kind == "bool_type" else int | float if kind in ("int_type", "float_type") else ()
    )
    advice = (
        f"; write {shown(old)}"
        if wanted and isinstance(old, wanted) and isinstance(old, bool) == (wanted is bool)
        else ""
    )
    return f": {text} is text in YAML 1.2 (DVC) and {shown(old)} in YAML 1.1{advice}"
