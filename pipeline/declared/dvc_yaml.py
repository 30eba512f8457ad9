"""Read dvc.yaml and expand its matrices: an Instance for each stage that DVC runs, by DVC's name.

    stages.train with matrix: {run: [a, b], step: [500]}   →   train@a-500, train@b-500

DVC takes a second to import; this takes milliseconds, so each stage can check its own declaration
at its start. Of DVC's templating it resolves what this project uses: `${item.key}` and
`${key.of.params.yaml}`. tests/pipeline/test_graph.py compares the result with DVC's own.
"""

import itertools
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from common.yaml_file import YamlFault, load, shown
from pipeline.declared.file_trees import Tree

PARAMS = "params.yaml"
GRAPH = "dvc.yaml"
# A link to dvc.yaml, for the stage that reports on all stages: DVC does not let a stage depend on
# dvc.yaml under its own name.
LINK = "stages.yaml"
_PLACE = re.compile(r"\$\{([^}]+)\}")
# The keys of a stage's `meta`. DVC keeps `meta` and ignores it, so a change reruns nothing.
FACTS = {
    "checks_params": (
        "runs first: pipeline/ checks the machine and what earlier runs left before it"
    ),
    "network": "may use the network, and read files outside the repository",
    "reads_code": "reads all code as text, so it depends on whole folders of code",
    "resources": (
        "what a Dask worker must have free for it, by the labels of dask worker --resources"
    ),
    "resumable": "keeps finished pieces of its work when it is killed",
    "spreads": (
        "the names of phases whose pieces any process may make, in this order (common/share.py)"
    ),
    "timings": "the path of its file of timings, which is not an output: nothing depends on it",
    "verdict": "always writes the same bytes: what waits for it never reruns because of it",
}


class Instance(NamedTuple):
    """A stage as DVC runs it: one instance of its matrix, or the stage itself.

    `params` maps a file to its declared keys. DVC caches `outs`, and git keeps `tracked`. `meta`
    has the keys of FACTS.
    """

    name: str
    stage: str
    command: str
    deps: tuple[str, ...]
    params: dict[str, tuple[str, ...]]
    outs: tuple[str, ...]
    tracked: tuple[str, ...]
    meta: Mapping[str, Any] = MappingProxyType({})

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.outs + self.tracked


def load_yaml(content: bytes, name: str = "YAML text") -> Any:
    """Parse `content` as DVC does; raises YamlFault, in one line that calls the file `name`."""
    return load(content, name)


def read_mapping(tree: Tree, path: str) -> dict[str, Any]:
    """Return the mapping in the YAML file `path` of `tree`; raises YamlFault."""
    value = load(tree.read(path), path)
    if not isinstance(value, dict):
        raise YamlFault(
            f"{path}: {'empty' if value is None else 'not a mapping of keys to values'}"
        )
    return value


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


def read_stages(tree: Tree) -> dict[str, dict[str, Any]]:
    """Return dvc.yaml's stages, each a mapping with a command; raises YamlFault."""
    stages = read_mapping(tree, GRAPH).get("stages")
    if not isinstance(stages, dict):
        raise YamlFault("dvc.yaml: stages: must be a mapping of names to stages")
    for name, text in stages.items():
        if not isinstance(text, dict) or not isinstance(text.get("cmd"), str):
            raise YamlFault(f"dvc.yaml: stages.{name}: must be a mapping with a cmd that is text")
    return stages


def read_instances(tree: Tree) -> dict[str, Instance]:
    """Return all instances by name."""
    params = read_mapping(tree, PARAMS)
    expanded = [
        instance
        for stage, text in read_stages(tree).items()
        for instance in expand(stage, text, params)
    ]
    return {instance.name: instance for instance in expanded}


def verdicts(instances: Iterable[Instance]) -> set[str]:
    """Return the outputs of instances that always write the same bytes (`verdict` in meta)."""
    return {out for instance in instances if instance.meta.get("verdict") for out in instance.outs}


def expand(stage: str, text: dict[str, Any], params: Any) -> list[Instance]:
    """Return the instances of one entry of dvc.yaml's `stages`.

    Raises YamlFault if params.yaml lacks a key that the entry names.
    """
    matrix = {key: _choices(values, params) for key, values in text.get("matrix", {}).items()}
    instances = []
    for values in itertools.product(*matrix.values()):
        item = dict(zip(matrix, values, strict=True))
        fields = _resolve(
            {key: value for key, value in text.items() if key != "matrix"}, params, item
        )
        outputs = [
            _output(entry) for key in ("outs", "metrics", "plots") for entry in fields.get(key, [])
        ]
        instances.append(
            Instance(
                name=f"{stage}@{'-'.join(map(str, values))}" if matrix else stage,
                stage=stage,
                command=fields["cmd"],
                deps=tuple(fields.get("deps", [])),
                params=keys_of(fields.get("params", [])),
                outs=tuple(path for path, cached in outputs if cached),
                tracked=tuple(path for path, cached in outputs if not cached),
                meta=fields.get("meta", {}),
            )
        )
    return instances


def _choices(values: Any, params: Any) -> list[str | int]:
    """Return the values of one axis of a matrix: a list's entries or a mapping's keys, as in DVC.

    Raises YamlFault unless all are text or whole numbers.
    """
    key = _PLACE.fullmatch(values) if isinstance(values, str) else None
    place = f"{PARAMS}: {key[1]}" if key else "dvc.yaml: matrix"
    found = _resolve(values, params, {})
    if not isinstance(found, dict | list) or not found:
        raise YamlFault(
            f"{place}: must be a list or a mapping with at least one entry, not {shown(found)}"
        )
    for position, each in enumerate(found):
        if not _names(each):
            raise YamlFault(
                f"{place}.{position}: must be text or a whole number, not {shown(each)}"
            )
    return list(found)


def _names(value: Any) -> bool:
    """Return whether DVC and this module write `value` the same way in a name."""
    return isinstance(value, str | int) and not isinstance(value, bool)


def _resolve(value: Any, params: Any, item: dict[str, Any]) -> Any:
    """Fill in the places in `value`, at any depth.

    "${a.b}" alone becomes the value itself, which may be a list; "x-${a.b}" becomes text.
    """
    if isinstance(value, dict):
        return {
            _resolve(key, params, item): _resolve(child, params, item)
            for key, child in value.items()
        }
    if isinstance(value, list):
        return [_resolve(child, params, item) for child in value]
    if not isinstance(value, str):
        return value

    def lookup(name: str) -> Any:
        if name.startswith("item."):
            return item[name.removeprefix("item.")]
        try:
            return value_at(params, name)
        except KeyError:
            raise YamlFault(f"{PARAMS}: {name}: missing; dvc.yaml uses it") from None

    def inserted(match: re.Match[str]) -> str:
        found = lookup(match[1])
        if not _names(found):
            raise YamlFault(
                f"{PARAMS}: {match[1]}: must be text or a whole number, not {shown(found)}"
            )
        return str(found)

    whole = _PLACE.fullmatch(value)
    return lookup(whole[1]) if whole else _PLACE.sub(inserted, value)


def _output(entry: str | dict[str, Any]) -> tuple[str, bool]:
    if isinstance(entry, str):
        return entry, True
    [(path, settings)] = entry.items()
    return path, settings.get("cache", True)


def keys_of(entries: list[str | dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Return the keys that a stage's `params` name, by file."""
    keys: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        pairs = entry.items() if isinstance(entry, dict) else [(PARAMS, [entry])]
        for file, names in pairs:
            keys[file] = keys.get(file, ()) + tuple(names)
    return keys


def parameter_values(tree: Tree, instance: Instance) -> dict[str, Any]:
    """Return the instance's parameters in `tree` by `key of file`; None for a missing key."""
    values: dict[str, Any] = {}
    for file, keys in instance.params.items():
        document = load(tree.read(file), file)
        values |= {f"{key} of {file}": value_or_none(document, key) for key in keys}
    return values


def pinned_files(values: dict[str, Any]) -> list[str]:
    """Return the paths that parameters pin by content: each `path` beside a `sha256`."""
    found, todo = [], list(values.values())
    while todo:
        value = todo.pop()
        if isinstance(value, dict) and {"path", "sha256"} <= value.keys():
            found.append(str(value["path"]))
        elif isinstance(value, dict | list):
            todo += value.values() if isinstance(value, dict) else value
    return found


def below_key(key: str, section: str) -> bool:
    """Return whether a dotted key is `section` or inside it."""
    return key == section or key.startswith(f"{section}.")


def below(path: str, folder: str) -> bool:
    """Return whether `path` is `folder` or inside it."""
    return path == folder or path.startswith(f"{folder}/")
