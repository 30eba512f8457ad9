"""Compare libraries.yaml with the code, with requirements.txt and with what is installed.

libraries.yaml lists, by stage, the versions of the libraries whose upgrade can change the stage's
bytes. Each stage that imports one declares its own name there as a parameter, so an upgrade reruns
only those stages. Python is not listed: results are the same on every version that pyproject.toml
declares.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata

from common.yaml_file import YamlFault
from pipeline.declared.code_imports import Code
from pipeline.declared.dvc_yaml import Instance, read_mapping
from pipeline.declared.file_trees import Tree
from pipeline.declared.settings import SETTINGS, command

FILE = "libraries.yaml"
LOCK = "requirements.txt"
PROJECT = "pyproject.toml"
NOT_INPUTS = SETTINGS.not_inputs


Versions = dict[str, dict[str, str]]  # by stage and library


def inputs(imported: set[str]) -> set[str]:
    """Return the libraries that libraries.yaml must list for a stage that imports `imported`."""
    names = {
        SETTINGS.distributions.get(name, name.replace("_", "-")) for name in imported
    } - NOT_INPUTS.keys()
    return names.union(*(SETTINGS.behind.get(name, []) for name in names))


def needed(code: Code, stages: Iterable[str]) -> dict[str, set[str]]:
    """Return the libraries that each stage's code imports."""
    return {stage: inputs(code.libraries(stage)) for stage in stages}


def declared_versions(tree: Tree) -> Versions:
    """Return the content of libraries.yaml; raises YamlFault."""
    versions = read_mapping(tree, FILE)
    for stage, libraries in versions.items():
        if not isinstance(libraries, dict):
            raise YamlFault(f"{FILE}: {stage}: must be a mapping of libraries to versions")
    return versions


def locked_versions(tree: Tree) -> dict[str, str]:
    """Return the versions that requirements.txt pins, by normalized name."""
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", tree.read(LOCK).decode(), flags=re.MULTILINE)
    return {_normalized(name): version for name, version in pins}


def installed_version(library: str) -> str | None:
    """Return the installed version without its build tag: +cpu and +cu130 are one release."""
    try:
        return metadata.version(library).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def python_mismatch(tree: Tree) -> list[str]:
    """Return a line if pyproject.toml does not declare this Python, where results may differ.

    It understands two forms of bounds in requires-python: `>=3.11` and `<3.15`.
    """
    project = tomllib.loads(tree.read(PROJECT).decode()) if tree.has(PROJECT) else {}
    declared = project.get("project", {}).get("requires-python", "")
    for comparison, bound in re.findall(r"(>=|<) *(\d+(?:\.\d+)*)", declared):
        reached = sys.version_info[:3] >= tuple(map(int, bound.split(".")))
        if reached != (comparison == ">="):
            running = ".".join(map(str, sys.version_info[:3]))
            line = f"this is Python {running}, {PROJECT} declares {declared}"
            return [f"{line}; run {command('setup')}"]
    return []


def mismatches(instance: Instance, versions: Versions) -> list[str]:
    """Return a line for each library of the instance that is not installed in its declared version.

    An instance with the whole of libraries.yaml as a dep needs all of them.
    """
    stages = versions if FILE in instance.deps else instance.params.get(FILE, ())
    wanted = {
        library: version for stage in stages for library, version in versions.get(stage, {}).items()
    }
    lines = [
        f"{instance.name}: {FILE} has no {stage}; run {command('libraries')}"
        for stage in stages
        if stage not in versions
    ]
    for library, version in wanted.items():
        found = installed_version(library)
        if found != version:
            lines.append(
                f"{instance.name}: {library} {found or 'is not'} installed, {FILE} declares "
                f"{version}; run {command('setup')}, or move to another version with "
                f"{command('lock')}"
            )
    return lines


def differences(tree: Tree, libraries: dict[str, set[str]]) -> list[str]:
    """Return a line for each difference between libraries.yaml and what `render` returns."""
    found = declared_versions(tree) if tree.has(FILE) else {}
    wanted = _versions(tree, libraries)
    lines = []
    for stage in sorted({*found, *wanted}):
        has, needs = found.get(stage, {}), wanted.get(stage, {})
        for library in sorted({*has, *needs}):
            if library not in has:
                lines.append(f"{stage}: lacks {library}, which the stage imports")
            elif library not in needs:
                lines.append(f"{stage}: has {library}, which the stage does not import")
            elif has[library] != needs[library]:
                lines.append(
                    f"{stage}: {library} is {has[library]}, and {LOCK} has {needs[library]}"
                )
    return [f"{FILE}: {line}; run {command('libraries')}" for line in lines]


def unpinned(tree: Tree, libraries: set[str]) -> list[str]:
    """Return those of `libraries` that requirements.txt does not have."""
    locked = locked_versions(tree)
    return sorted(name for name in libraries if _normalized(name) not in locked)


def render(tree: Tree, libraries: dict[str, set[str]]) -> str:
    """Return libraries.yaml's text: each stage's `libraries`, as requirements.txt pins them."""
    rows = [
        f"{stage}: {{{', '.join(map(_pair, versions.items()))}}}\n"
        for stage, versions in _versions(tree, libraries).items()
    ]
    return (
        f"# The libraries of each stage; written by {command('libraries')} from {LOCK}.\n"
        + "".join(rows)
    )


def _pair(of: tuple[str, str]) -> str:
    return f'{of[0]}: "{of[1]}"'


def _versions(tree: Tree, libraries: dict[str, set[str]]) -> Versions:
    locked = locked_versions(tree)
    return {
        stage: {name: locked[_normalized(name)] for name in sorted(names)}
        for stage, names in sorted(libraries.items())
        if names
    }


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
