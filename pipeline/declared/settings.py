"""The settings of a project: the table [tool.pipeline] of its pyproject.toml.

Read once, from the working directory: every command runs at the repository's root.
"""

import importlib
import os
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

FILE = "pyproject.toml"
_NONE: Mapping[str, Any] = MappingProxyType({})


class Settings(NamedTuple):
    """The table's keys, and their values if pyproject.toml does not name them."""

    # Folders of the code that stages run. An edit in them reruns what imports it.
    code: Sequence[str] = ("common", "stages")
    # The one of these folders with a module for each stage: dvc.yaml runs `python -m stages.NAME`.
    stages: str = "stages"
    # Folders of outputs that git keeps.
    results: Sequence[str] = ("metrics", "plots")
    # Folders of outputs that `prune --artifacts` frees.
    artifacts: Sequence[str] = ()
    # Functions in tools/, as module:name; each returns lines to print. pipeline.check calls
    # `findings` and `notes` with a tree. The seal calls `machine` with the root, before a stage
    # with `checks_params` in its meta.
    findings: Sequence[str] = ()
    notes: Sequence[str] = ()
    machine: Sequence[str] = ()
    # The commands that error messages name, by purpose.
    commands: Mapping[str, str] = _NONE
    # Variables of the environment that stages get beyond pipeline/seal/environment.py's.
    environment: Mapping[str, Sequence[str]] = _NONE
    # Variables that keep libraries from the network, set for stages without it.
    offline: Mapping[str, str] = _NONE
    # Variables that libraries read when they are loaded, set for stages. A value is text, or
    # {"key of params.yaml": {"a value of it": "text"}}, for stages that declare that parameter.
    variables: Mapping[str, Any] = _NONE
    # Flags in /proc/cpuinfo that a processor needs for these variables; without them none is set.
    variables_need: Sequence[str] = ()
    # Imported name → name in requirements.txt, if the two differ.
    distributions: Mapping[str, str] = _NONE
    # Keys of params that only check a finished input, so that correcting one keeps the pieces of a
    # resumable stage. Each has the conditions on sibling keys under which this holds: sha256 =
    # { kind = "hub" } holds beside kind: hub.
    judged: Mapping[str, Mapping[str, str]] = _NONE
    # Libraries that cannot change a stage's bytes, and why.
    not_inputs: Mapping[str, str] = _NONE
    # Imported library → libraries that it calls to write bytes.
    behind: Mapping[str, Sequence[str]] = _NONE
    # Module → what it may read of the machine (pipeline/declared/surroundings.py).
    surroundings: Mapping[str, Sequence[str]] = _NONE


_COMMANDS = {
    "libraries": "python -m pipeline.dvc_support.record libraries",
    "lock": "pip freeze",
    "prune": "python -m pipeline.leftover.prune",
    "pull": "python -m pipeline.dvc_support.share pull",
    "push": "python -m pipeline.dvc_support.share push",
    "repro": "dvc repro",
    "setup": "pip install -r requirements.txt",
}
# For the imports of common/, in every project.
_DISTRIBUTIONS = {"yaml": "pyyaml"}
_NOT_INPUTS = {
    "pydantic": "checks values and, being strict, converts none",
    "pyyaml": "reads params.yaml, whose values DVC compares itself",
}
# common/files.py reads the seal's list of outputs there, for the advice of an error message.
_SURROUNDINGS = {"common/files.py": ["os.environ"]}


def read(root: str = ".") -> Settings:
    """Return the settings of the project at `root`; exit with one line if they cannot be read."""
    try:
        with open(os.path.join(root, FILE), "rb") as file:
            settings = _checked(tomllib.load(file).get("tool", {}).get("pipeline", {}))
    except FileNotFoundError:
        settings = Settings()
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"error: {FILE}: tool.pipeline: {error}".replace("Settings.__new__() ", ""))
    return settings._replace(
        commands={**_COMMANDS, **settings.commands},
        distributions={**_DISTRIBUTIONS, **settings.distributions},
        not_inputs={**_NOT_INPUTS, **settings.not_inputs},
        surroundings={**_SURROUNDINGS, **settings.surroundings},
    )


def _checked(table: dict[str, Any]) -> Settings:
    """Return the settings of a table; raise ValueError for a value of the wrong type."""
    for key, value in table.items():
        default = Settings._field_defaults.get(key)
        if isinstance(default, tuple) and not _is_list_of_text(value):
            raise ValueError(f"{key}: must be a list of text, not {value!r}")
        if isinstance(default, Mapping) and not isinstance(value, dict):
            raise ValueError(f"{key}: must be a table, not {value!r}")
    for key in ("environment", "behind", "surroundings"):
        for name, value in table.get(key, {}).items():
            if not _is_list_of_text(value):
                raise ValueError(f"{key}.{name}: must be a list of text, not {value!r}")
    for name, value in table.get("variables", {}).items():
        if not _is_text_or_chosen(value):
            raise ValueError(f"variables.{name}: must be text, or a table KEY = {{VALUE = text}}")
    for name in table.get("offline", {}):
        # Any other variable could change what a stage computes without rerunning it.
        if not name.endswith("_OFFLINE"):
            raise ValueError(f"offline.{name}: must be a name that ends in _OFFLINE")
    return Settings(**table)


def _is_text_or_chosen(value: Any) -> bool:
    if isinstance(value, dict) and len(value) == 1:
        [choices] = value.values()
        return isinstance(choices, dict) and all(isinstance(each, str) for each in choices.values())
    return isinstance(value, str)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


SETTINGS = read()


PRUNE = f"run {SETTINGS.commands['prune']}"
REPRO = f"run {SETTINGS.commands['repro']}"


def hooks(kind: str) -> list[Callable[..., list[str]]]:
    """Return the project's own functions of a kind: findings, notes or machine.

    Only modules of tools/ can be named, so pyproject.toml cannot run any other code.
    """
    named = [name.split(":") for name in getattr(SETTINGS, kind)]
    return [
        getattr(importlib.import_module(f"tools.{module}"), function) for module, function in named
    ]


def command(purpose: str) -> str:
    """Return the command that a person runs for `purpose`, such as `make repro`."""
    return SETTINGS.commands[purpose]
