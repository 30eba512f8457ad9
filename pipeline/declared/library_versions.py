"""The libraries whose upgrade can change a stage's bytes, declared per stage in dvc.yaml by their key in libraries.yaml."""

import re
import sys
from importlib import metadata

from pipeline.declared.dvc_yaml import Instance, read_mapping
from pipeline.declared.file_trees import Tree
from pipeline.settings import SETTINGS, command

FILE = "libraries.yaml"
LOCK = "requirements.txt"
NOT_INPUTS = SETTINGS.not_inputs


def inputs(imported: set[str]) -> set[str]:
    """Return the keys of libraries.yaml that a stage importing the packages `imported` has to declare."""
    names = {
        SETTINGS.distributions.get(name, name.replace("_", "-")) for name in imported
    } - NOT_INPUTS.keys()
    return names.union({"python"}, *(SETTINGS.behind.get(name, []) for name in names))


def declared_versions(tree: Tree) -> dict[str, str]:
    return read_mapping(tree, FILE)


def locked_versions(tree: Tree) -> dict[str, str]:
    """Return the versions that requirements.txt pins, by normalized name."""
    lines = tree.read(LOCK).decode().splitlines()
    return {
        _normalized(name): version
        for name, _, version in (line.partition("==") for line in lines)
        if version
    }


def installed_version(library: str) -> str | None:
    """Return the installed version without its build tag (+cpu, +cu130: one release); Python's without its patch number."""
    if library == "python":
        return f"{sys.version_info[0]}.{sys.version_info[1]}"
    try:
        return metadata.version(library).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def mismatches(instance: Instance, versions: dict[str, str]) -> list[str]:
    """Return a line for each library of the instance, which may have all, that is not installed in its declared version."""
    lines = []
    for library in versions if FILE in instance.deps else instance.params.get(FILE, ()):
        found, wanted = installed_version(library), versions.get(library)
        if found != wanted:
            lines.append(
                f"{instance.name}: {library} {found or 'is not'} installed, {FILE} declares {wanted}; "
                f"run {command('setup')}, or move to another version with {command('lock')}"
            )
    return lines


def unpinned(tree: Tree, libraries: set[str]) -> list[str]:
    """Return those of `libraries` that requirements.txt does not have."""
    return sorted(
        name for name in libraries - {"python"} if _normalized(name) not in locked_versions(tree)
    )


def render(tree: Tree, libraries: set[str]) -> str:
    """Return libraries.yaml's text for `libraries` at the versions of requirements.txt."""
    locked = {**locked_versions(tree), "python": installed_version("python")}
    lines = [f'{library}: "{locked[_normalized(library)]}"\n' for library in sorted(libraries)]
    return (
        f"# Inputs of the stages that declare them; written by {command('libraries')} from {LOCK}.\n"
        + "".join(lines)
    )


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
