"""What an edit of a key of params.yaml reruns, by what the stages of dvc.yaml declare."""

import re
from collections.abc import Iterator
from typing import Any

from pipeline.declared.dvc_yaml import (
    PARAMS,
    below,
    below_key,
    expand,
    keys_of,
    read_mapping,
    read_stages,
)
from pipeline.declared.file_trees import Tree
from tools.generated.parameter_rows import NAME

_PLACE = re.compile(r"\$\{([^}]+)\}")


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
        """Yield the keys of params.yaml that a stage declares or uses, and which instance does.

        dvc.yaml lists the inputs: `fetch.${item.input}` is `fetch.tasks` of fetch@tasks, and so on.
        params.yaml chooses the names of conditions: `conditions.${item.condition}.model` is
        `conditions.NAME.model` of the whole stage.
        """
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
