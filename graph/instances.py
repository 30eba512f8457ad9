"""dvc.yaml with its matrices expanded: the stages DVC runs, by the names it gives them.

Resolves what this project uses of DVC's templating (`${item.key}` and `${key.of.params.yaml}`) in a few milliseconds, so
that every stage can be held to its declaration; tests/test_graph.py compares the result with DVC's own.
"""

import itertools
import math
import re
from typing import Any, ClassVar, NamedTuple

import yaml

from graph.tree import Tree

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # a PyYAML without libyaml: the same, ten times slower
    from yaml import SafeLoader as _SafeLoader

PARAMS = "params.yaml"
GRAPH = "dvc.yaml"
# A link to dvc.yaml for the stage that reports on all stages: DVC lets no stage depend on dvc.yaml by its own name.
STAGES = "stages.yaml"


class Loader(_SafeLoader):
    """A safe loader that reads plain scalars as YAML 1.2 does, and so DVC: 6e-05 is a number, on and 12:30 are text."""

    yaml_implicit_resolvers: ClassVar = {}

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        text = node.value
        special = {".inf": math.inf, "+.inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}
        return special[text.lower()] if text.lower() in special else float(text)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_number)


class Instance(NamedTuple):
    """A stage as DVC runs it. `params` maps a file to the keys declared of it; `tracked` are outputs that git keeps."""

    name: str
    stage: str
    command: str
    deps: tuple[str, ...]
    params: dict[str, tuple[str, ...]]
    outs: tuple[str, ...]
    tracked: tuple[str, ...]

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.outs + self.tracked


def load_yaml(content: bytes) -> Any:
    return yaml.load(content, Loader)  # noqa: S506


def value_at(document: Any, key: str) -> Any:
    """Return the value under a dotted key; raises KeyError naming the whole key."""
    for part in key.split("."):
        if not isinstance(document, dict) or part not in document:
            raise KeyError(key)
        document = document[part]
    return document


def value_or_none(document: Any, key: str) -> Any:
    try:
        return value_at(document, key)
    except KeyError:
        return None


def read_stages(tree: Tree) -> dict[str, dict]:
    return load_yaml(tree.read(GRAPH))["stages"]


def read_instances(tree: Tree) -> dict[str, Instance]:
    """Return all instances by name."""
    params = load_yaml(tree.read(PARAMS))
    expanded = [instance for stage, text in read_stages(tree).items() for instance in expand(stage, text, params)]
    return {instance.name: instance for instance in expanded}


def expand(stage: str, text: dict, params: Any) -> list[Instance]:
    """Return the instances of one entry of dvc.yaml's `stages`; raises KeyError where params.yaml lacks a key it names."""
    matrix = {key: _resolve(values, params, {}) for key, values in text.get("matrix", {}).items()}
    instances = []
    for values in itertools.product(*matrix.values()):
        item = dict(zip(matrix, values, strict=True))
        fields = _resolve({key: value for key, value in text.items() if key != "matrix"}, params, item)
        outputs = [_output(entry) for key in ("outs", "metrics", "plots") for entry in fields.get(key, [])]
        instances.append(
            Instance(
                name=f"{stage}@{'-'.join(map(str, values))}" if matrix else stage,
                stage=stage,
                command=fields["cmd"],
                deps=tuple(fields.get("deps", [])),
                params=_params(fields.get("params", [])),
                outs=tuple(path for path, cached in outputs if cached),
                tracked=tuple(path for path, cached in outputs if not cached),
            )
        )
    return instances


def _resolve(value: Any, params: Any, item: dict) -> Any:
    if isinstance(value, dict):
        return {_resolve(key, params, item): _resolve(child, params, item) for key, child in value.items()}
    if isinstance(value, list):
        return [_resolve(child, params, item) for child in value]
    if not isinstance(value, str):
        return value

    def lookup(name: str) -> Any:
        return item[name.removeprefix("item.")] if name.startswith("item.") else value_at(params, name)

    whole = re.fullmatch(r"\$\{([^}]+)\}", value)
    return lookup(whole[1]) if whole else re.sub(r"\$\{([^}]+)\}", lambda match: str(lookup(match[1])), value)


def _output(entry: str | dict) -> tuple[str, bool]:
    if isinstance(entry, str):
        return entry, True
    [(path, settings)] = entry.items()
    return path, settings.get("cache", True)


def _params(entries: list[str | dict]) -> dict[str, tuple[str, ...]]:
    keys: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        pairs = entry.items() if isinstance(entry, dict) else [(PARAMS, [entry])]
        for file, names in pairs:
            keys[file] = keys.get(file, ()) + tuple(names)
    return keys


def parameter_values(tree: Tree, instance: Instance) -> dict[str, Any]:
    """Return what the instance's parameters are in `tree`, by `key of file`; None for a key that is not there."""
    values = {}
    for file, keys in instance.params.items():
        document = load_yaml(tree.read(file))
        values |= {f"{key} of {file}": value_or_none(document, key) for key in keys}
    return values


def pinned_files(values: dict[str, Any]) -> list[str]:
    """Return the paths that parameters pin by SHA-256, `path` beside `sha256` as `fetch` has them: declared by content."""
    found, todo = [], list(values.values())
    while todo:
        value = todo.pop()
        if isinstance(value, dict) and {"path", "sha256"} <= value.keys():
            found.append(str(value["path"]))
        elif isinstance(value, dict | list):
            todo += value.values() if isinstance(value, dict) else value
    return found


def below(path: str, folder: str) -> bool:
    """Return whether `path` is `folder` or inside it."""
    return path == folder or path.startswith(f"{folder}/")
