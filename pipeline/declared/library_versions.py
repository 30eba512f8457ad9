"""The libraries whose upgrade can change a stage's bytes, declared per stage in dvc.yaml by their key in libraries.yaml."""

import re
import sys
from importlib import metadata

from pipeline.declared.dvc_yaml import Instance, read_mapping
from pipeline.declared.file_trees import Tree

FILE = "libraries.yaml"
LOCK = "requirements.txt"
# Imported as the key, installed as the value, where the two differ.
_DISTRIBUTIONS = {"PIL": "pillow", "vl_convert": "vl-convert-python", "yaml": "pyyaml"}
# No input of any stage, and why.
NOT_INPUTS = {
    "pydantic": "checks values and, being strict, converts none",
    "pyyaml": "reads params.yaml, whose values DVC compares itself",
    "tqdm": "draws progress bars",
}
# Libraries that write bytes on behalf of the one that is imported.
_BEHIND = {
    "transformers": {"safetensors", "tokenizers"},
    "matplotlib": {"pillow"},
    "jinja2": {"markupsafe"},
}


def inputs(imported: set[str]) -> set[str]:
    """Return the keys of libraries.yaml that a stage importing the packages `imported` has to declare."""
    names = {
        _DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in imported
    } - NOT_INPUTS.keys()
    return names.union({"python"}, *(_BEHIND.get(name, set()) for name in names))


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
                f"{instance.name}: {library} {found or 'is not'} installed, {FILE} declares {wanted}; run make setup, "
                "or move to another version with make lock"
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
        "# Inputs of the stages that declare them; written by make lock from requirements.txt.\n"
        + "".join(lines)
    )


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
