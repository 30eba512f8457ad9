"""The stages of dvc.yaml for the report: commands, code, data, parameters, libraries, and edges.

An edge of the graph leads from a stage to one that reads its outputs.
"""

import hashlib
import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import PipelineError
from common.yaml_file import read_yaml

_LIBRARIES, _PARAMS, _STAGES = "libraries.yaml", "params.yaml", "stages.yaml"
# The folders of code.
_CODE = ("common", "model", "stages")
# A reference such as ${item.seed} or ${model.context}.
_REFERENCE = re.compile(r"\$\{([^}]+)\}")


class Stage(NamedTuple):
    """One stage of dvc.yaml."""

    name: str
    command: str
    # How many instances it has: one for each combination of its arguments.
    instances: int
    inputs: list[str]
    outputs: list[str]
    # Git blob ids of its modules by path.
    code: dict[str, str]
    # Values by key.
    params: dict[str, Any]
    # Versions by name.
    libraries: dict[str, str]
    # The stages whose outputs it reads.
    needs: list[str]


def read_stages(root: Path) -> list[Stage]:
    """Return the stages of the repository `root` in dvc.yaml's order.

    Raises PipelineError if dvc.yaml names a parameter that params.yaml lacks.
    """
    texts = _declared(root / _STAGES)
    params, versions = (read_yaml(root / name) for name in (_PARAMS, _LIBRARIES))
    items = {name: _items(text.get("matrix", {}), params) for name, text in texts.items()}
    made = {name: _expanded(text["outs"], items[name], params) for name, text in texts.items()}
    return [
        _stage(root, name, text, items[name], made, params, versions)
        for name, text in texts.items()
    ]


def _declared(path: Path) -> dict[str, dict[str, Any]]:
    """Return dvc.yaml's stages with all their outputs under `outs`.

    `path` is the link to dvc.yaml. DVC keeps outputs under three keys, and an output is a path or a
    dict with the path as its key.
    """
    whole = read_yaml(path)
    if not isinstance(whole, dict) or not isinstance(whole.get("stages"), dict):
        raise PipelineError(f"{path}: not the link to dvc.yaml; git restore {path}")
    stages = {}
    for name, text in whole["stages"].items():
        entries = [entry for key in ("outs", "metrics", "plots") for entry in text.get(key, [])]
        outs = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
        stages[name] = {**text, "outs": outs}
    return stages


def _stage(
    root: Path,
    name: str,
    text: dict[str, Any],
    items: list[dict[str, Any]],
    made: dict[str, set[str]],
    params: dict[str, Any],
    versions: dict[str, Any],
) -> Stage:
    """Return one stage; `items` are its instances, `made` all stages' outputs by name."""
    deps = text.get("deps", [])
    # A dependency is code if it is a module or lies in a folder of code; all others are data.
    code = [dep for dep in deps if dep.endswith(".py") or dep.partition("/")[0] in _CODE]
    data = _expanded([dep for dep in deps if dep not in code], items, params)
    # Under `params`, a text is a key of params.yaml; a dict names another file with its keys.
    entries = text.get("params", [])
    keys = sorted(_expanded([entry for entry in entries if isinstance(entry, str)], items, params))
    named = {
        key for entry in entries if isinstance(entry, dict) for key in entry.get(_LIBRARIES, [])
    }
    needs = [
        other
        for other in made
        if other != name and any(_meet(dep, out) for dep in data for out in made[other])
    ]
    return Stage(
        name=name,
        command=_plain(text["cmd"]),
        instances=len(items),
        inputs=[_plain(dep) for dep in deps if dep not in code],
        outputs=[_plain(out) for out in text["outs"]],
        code=_blobs(root, set() if set(_CODE) <= set(code) else _expanded(code, items, params)),
        params={key: _value(params, key) for key in keys},
        libraries=(
            _merged(versions.values())
            if _LIBRARIES in deps
            else _merged(versions[key] for key in sorted(named))
        ),
        needs=needs,
    )


def _merged(libraries: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return the versions of several stages' libraries, sorted by name."""
    return dict(sorted(pair for each in libraries for pair in each.items()))


def _blobs(root: Path, deps: set[str]) -> dict[str, str]:
    """Return the git blob id of every module in `deps`, a set of modules and folders."""
    modules = (
        module
        for dep in deps
        for module in ((root / dep).rglob("*.py") if (root / dep).is_dir() else [root / dep])
    )
    return {module.relative_to(root).as_posix(): blob_id(module) for module in sorted(modules)}


def blob_id(path: Path) -> str:
    """Return git's id of the content of `path`; `git show` with it prints the file."""
    content = path.read_bytes()
    # Git hashes the word "blob", the number of bytes and a zero byte before the content.
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def reduced(stages: list[Stage]) -> list[tuple[str, str]]:
    """Return the edges (from, to) of the graph, without those that a longer way implies.

    With a → b → c and a → c, the last is left out (the transitive reduction).
    """
    needs = {stage.name: set(stage.needs) for stage in stages}

    # All stages that `name` needs, directly or not.
    def above(name: str) -> set[str]:
        return needs[name].union(*(above(other) for other in needs[name]))

    return [
        (other, name)
        for name, direct in needs.items()
        for other in sorted(direct)  # a set's own order differs from run to run
        if not any(other in above(third) for third in direct)
    ]


def _items(matrix: dict[str, Any], params: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a stage's instances: all combinations of its matrix, one empty dict without a matrix.

    A value of the matrix is a list, or a reference to one, such as ${seeds}.
    """
    whole = {
        key: _value(params, values[2:-1]) if isinstance(values, str) else values
        for key, values in matrix.items()
    }
    return [dict(zip(whole, values, strict=True)) for values in itertools.product(*whole.values())]


def _expanded(texts: list[str], items: list[dict[str, Any]], params: dict[str, Any]) -> set[str]:
    """Return `texts` with every reference replaced by its value, once for each instance."""

    def value(name: str, item: dict[str, Any]) -> str:
        return str(
            item[name.removeprefix("item.")] if name.startswith("item.") else _value(params, name)
        )

    def replaced(text: str, item: dict[str, Any]) -> str:
        return _REFERENCE.sub(lambda found: value(found[1], item), text)

    return {replaced(text, item) for text in texts for item in items}


def _meet(dep: str, out: str) -> bool:
    """Return True if the paths are the same, or one lies in the other."""
    # The slash keeps "data/items" apart from "data/items_old".
    return f"{dep}/".startswith(f"{out}/") or f"{out}/".startswith(f"{dep}/")


def _plain(text: str) -> str:
    """Return `text` with its references in capitals: ${item.seed} becomes SEED."""
    return _REFERENCE.sub(lambda found: found[1].split(".")[-1].upper(), text)


def _value(params: dict[str, Any], key: str) -> Any:
    """Return the value at a dotted key of params.yaml; raise PipelineError if it is missing."""
    value: Any = params
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            raise PipelineError(
                f"{_PARAMS}: {key}: missing, and dvc.yaml names it; profiles/ holds complete"
                " examples"
            )
        value = value[part]
    return value
