"""Typed, strict sections of params.yaml: an unknown, missing or ill-typed key is an error that names it."""

import json
import sys
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from model.errors import PipelineError, printable

PARAMS_FILE = Path("params.yaml")
_LONGEST_SHOWN = 80  # characters of a value that is refused


class Section(BaseModel):
    """Base of every section: no unknown keys, no conversion between types, no change after reading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


T = TypeVar("T")


def read_section(key: str, kind: type[T], path: Path = PARAMS_FILE) -> T:
    """Return `path`'s value under the dotted `key`, validated as `kind` (a Section or any annotated type).

    Raises PipelineError with one line per fault, each naming the key and the rule it breaks.
    """
    sys.audit("gpt2_ablation.read_section", str(path), key)  # the seal compares with dvc.yaml
    value: Any = read_yaml(path)
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise PipelineError(f"{path}: {key}: missing; profiles/ holds complete examples")
        value = value[part]
    return validate(value, kind, path, key)


def read_yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 1}" if place else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise PipelineError(f"{path}: not valid YAML{where}: {printable(problem)}") from None
    # What PyYAML makes of 2001-99-99, 0x_ and !!bool x, and of nesting without end.
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise PipelineError(f"{path}: not valid YAML: a value is none of its type ({printable(repr(error))})") from None


def read_json(path: Path, kind: type[T]) -> T:
    """Return the JSON file `path` validated as `kind`; raises PipelineError as `read_section` does."""
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
        raise PipelineError("\n".join(_line(fault, path, key) for fault in error.errors())) from None


def _line(fault: dict, path: Path, key: str) -> str:
    location = ".".join(printable(str(part)) for part in (key, *fault["loc"]) if part != "")
    message = fault["msg"].removeprefix("Value error, ")
    is_yaml = path.suffix == ".yaml"
    if fault["type"] == "extra_forbidden":
        message = "unknown key; remove it or correct its spelling"
    elif fault["type"] == "missing":
        message = "missing; profiles/ holds complete examples" if is_yaml else "missing"
    elif is_yaml and fault["type"] in ("float_type", "int_type") and isinstance(fault["input"], str):
        message += f", not the text {_shown(fault['input'])} (YAML reads 1e-4 as text: write 1.0e-4)"
    elif not isinstance(fault["input"], dict | list):
        message += f", got {_shown(fault['input'])}"
    return f"{path}: {location or 'top level'}: {printable(message)}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        text = "a very long number"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
