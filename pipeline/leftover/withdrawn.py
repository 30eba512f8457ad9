"""Find results of runs that params.yaml no longer names, in a folder that a stage reads whole.

DVC hashes such a folder with everything in it. The results of a dropped seed would count as input
of the stage that reads the folder, and no other clone would compute the same hash. So each stage
looks for them at its start (pipeline/seal/sealed_stage.py). The first stage of a run stops within a
second, and `make prune` (pipeline/leftover/prune.py) removes them. An empty directory is harmless.
"""

import fnmatch
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pipeline.declared.dvc_yaml import PARAMS, Instance, below, expand, load_yaml, read_stages
from pipeline.declared.file_trees import IGNORED, Tree, WorkingTree
from pipeline.declared.settings import PRUNE

_PLACE = "\0"  # marks both ends of a matrix key in an output's path, where it cannot occur


class OutputPattern(NamedTuple):
    """One output of a stage for any values of its matrix.

    `pattern` has a group for each key, and `known` the values that params.yaml gives. `root` is the
    top-level folder that the output lies in. For metrics/${item.run}/seed_${item.seed}.json:

        pattern   metrics/(?P<run>\\w[\\w-]*)/seed_(?P<seed>\\d+)\\.json
        known     {"run": ["baseline"], "seed": ["1", "2"]}
    """

    stage: str
    root: str
    pattern: re.Pattern[str]
    known: dict[str, list[str]]

    def name(self, match: re.Match[str]) -> str:
        """Return DVC's name of the instance whose output `match` is."""
        values = match.groupdict()
        return f"{self.stage}@{'-'.join(values[key] for key in self.known if key in values)}"

    def unknown(self, match: re.Match[str]) -> dict[str, str]:
        """Return the values in `match` that params.yaml does not give, by key."""
        return {
            key: value for key, value in match.groupdict().items() if value not in self.known[key]
        }


def templates(
    tree: Tree, more: Callable[[Instance], Instance] = lambda instance: instance
) -> list[OutputPattern]:
    """Return the outputs of stages that run once for each value of a list in params.yaml.

    A list written in dvc.yaml itself matches only its own values: a folder of another name, such as
    one below data/raw, may be the user's. `more` may add outputs to an instance.
    """
    params, found = load_yaml(tree.read(PARAMS)), []
    for stage, text in read_stages(tree).items():
        matrix = text.get("matrix", {})
        free = [key for key, values in matrix.items() if isinstance(values, str)]
        if not free:
            continue
        known = {key: _values(values, params) for key, values in matrix.items()}
        kinds = {
            key: r"\d+" if known[key] and all(map(str.isdigit, known[key])) else r"\w[\w-]*"
            for key in free
        }
        kinds |= {
            key: "|".join(map(re.escape, values))
            for key, values in known.items()
            if key not in free
        }
        # Expand the stage once with marks in place of values, so that its outputs show where the
        # values stand: metrics/\0run\0/seed_\0seed\0.json.
        wild = {**text, "matrix": {key: [f"{_PLACE}{key}{_PLACE}"] for key in matrix}}
        [instance] = expand(stage, {**wild, "params": [], "deps": []}, params)
        for output in more(instance).outputs:
            if any(f"{_PLACE}{key}{_PLACE}" in output for key in free):
                found.append(
                    OutputPattern(stage, output.split("/")[0], _pattern(output, kinds), known)
                )
    return found


def _values(values: str | list[Any], params: Any) -> list[str]:
    if isinstance(values, str):
        [instance] = expand("any", {"cmd": "", "deps": values}, params)
        return [str(value) for value in instance.deps]
    return [str(value) for value in values]


def _pattern(output: str, kinds: dict[str, str]) -> re.Pattern[str]:
    """Return the pattern of an output with marks; a key's second place must have the same value.

    Split at the marks, every second part is a key: "metrics/", "run", "/seed_", "seed", ".json".
    """
    seen: set[str] = set()
    parts = []
    for number, part in enumerate(output.split(_PLACE)):
        if number % 2 == 0:
            parts.append(re.escape(part))
        elif part in seen:
            parts.append(f"(?P={part})")
        else:
            seen.add(part)
            parts.append(f"(?P<{part}>{kinds[part]})")
    return re.compile("".join(parts))


def withdrawn_values(tree: Tree) -> Callable[[str], list[str]]:
    """Return a function from a path to the dropped values that made it, such as ["seed 2"]."""
    known = templates(tree)

    def of(path: str) -> list[str]:
        while path:
            for template in known:
                match = template.pattern.fullmatch(path)
                if match and (values := template.unknown(match)):
                    return [f"{key} {value}" for key, value in values.items()]
            path = os.path.dirname(path)
        return []

    return of


def outputs_read(instance: Instance, instances: list[Instance]) -> list[str]:
    """Return the outputs of all stages that `instance` reads in whole or in part."""
    outputs = [out for one in instances for out in one.outputs]
    return [
        out for out in outputs if any(below(dep, out) or below(out, dep) for dep in instance.deps)
    ]


def refusal(root: Path, instances: list[Instance]) -> str | None:
    """Return why no stage may run now: DVC could not keep outputs, or would hash foreign files."""
    folders = {
        str(folder)
        for one in instances
        for out in one.outputs
        for folder in PurePosixPath(out).parents
    }
    if links := sorted(folder for folder in folders if (root / folder).is_symlink()):
        return (
            f"{links[0]} is a symbolic link, and DVC keeps no output behind one; make it a "
            "directory again, and put the cache "
            "on the other disk instead: dvc cache dir --local DIRECTORY, or .dvc/cache as the link"
        )
    found = list(foreign_files(root, instances))
    if not found:
        return None
    of = withdrawn_values(WorkingTree(root))
    values = {path: of(path) for path in found}
    names = list(dict.fromkeys(name for found_here in values.values() for name in found_here))
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        [first, *others] = [path for path in found if values[path]]
        where = first + (f" and {len(others)} more files" if others else "")
        return (
            f"{PARAMS} no longer names {', '.join(names[:3])}{more}, "
            f"whose results are still here ({where}); {PRUNE}"
        )
    [first, *others] = found
    more = f" ({len(others)} more files like it)" if others else ""
    folder = first.split("/")[0]
    return (
        f"{first}: no stage writes it, and what is in {folder}/ is read as results; "
        f"move it out of {folder}/{more}"
    )


def foreign_files(root: Path, instances: list[Instance]) -> Iterator[str]:
    """Yield files that no stage writes, in folders that a stage reads as a whole."""
    outputs = {out for instance in instances for out in instance.outputs}
    deps = {dep for instance in instances for dep in instance.deps if not dep.endswith(".py")}
    gathered = sorted(dep for dep in deps if any(out != dep and below(out, dep) for out in outputs))
    lines = (root / IGNORED).read_text().splitlines() if (root / IGNORED).is_file() else []
    ignored = [line for line in lines if line and not line.startswith("#")]
    for folder in gathered:
        if not any(folder != other and below(folder, other) for other in gathered):
            yield from _walk(root, folder, outputs, ignored)


def _walk(root: Path, folder: str, outputs: set[str], ignored: list[str]) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if path in outputs or any(fnmatch.fnmatch(entry.name, pattern) for pattern in ignored):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, path, outputs, ignored)
        else:
            yield path
