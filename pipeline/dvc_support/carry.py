"""Rename code in dvc.lock's entries if dvc.yaml now names the same files differently.

Take a stage that depends on the folder model/scoring. If a new module there does not belong to its
code, `make fix` lists the folder's other modules instead, and DVC would rerun the stage, because
its list of dependencies has changed. This module gives its entry in dvc.lock the new names, if the
hashes prove that the recorded run read exactly these files.
"""

from pathlib import Path
from typing import Any

from common.yaml_file import load
from pipeline.declared.code_imports import is_code
from pipeline.declared.dvc_yaml import Instance, below, read_instances
from pipeline.declared.file_trees import Tree, WorkingTree, without_ignored
from pipeline.declared.lockfile import LOCK, directory_hash, md5_of


def carry(root: Path) -> list[str]:
    """Rename code in the entries of dvc.lock as dvc.yaml names it; return the stages renamed."""
    tree = WorkingTree(root)
    if not tree.has(LOCK):
        return []
    if not renamed_entries(tree, tree.read(LOCK)):
        return []
    # Importing DVC takes a second; most calls rename nothing and need not wait for it.
    from pipeline.dvc_support.lock_entries import rewrite_lock, with_entries

    renamed: list[str] = []

    def rewritten(text: str) -> str:
        """Return `text` with the new names; DVC's lock is held, so dvc.lock cannot change now."""
        entries = renamed_entries(tree, text.encode())
        renamed.extend(sorted(entries))
        return with_entries(text, entries) if entries else text

    rewrite_lock(root, rewritten)
    return renamed


def renamed_entries(tree: Tree, lock: bytes) -> dict[str, dict[str, Any]]:
    """Return the entries of `lock` that differ only in the names of their code, with new names."""
    instances = read_instances(tree)
    entries = load(lock, LOCK)["stages"]
    new = {}
    for name in entries.keys() & instances.keys():
        deps = _renamed(entries[name].get("deps", []), instances[name], tree)
        if deps is not None:
            new[name] = {**entries[name], "deps": deps}
    return new


def _renamed(
    recorded: list[dict[str, Any]], instance: Instance, tree: Tree
) -> list[dict[str, Any]] | None:
    """Return the recorded dependencies with code under its new names.

    None if the names are the same already, or if a file is another one than the recorded run read.
    """
    code = [dep for dep in recorded if is_code(dep["path"])]
    named = [dep for dep in instance.deps if is_code(dep)]
    if {dep["path"] for dep in code} == set(named):
        return None
    # Each recorded name must cover files that are still the same, and all the recorded names
    # together exactly the files that the new names cover.
    files = {path: tree.read(path) for dep in named for path in _files(tree, dep)}
    covered: set[str] = set()
    for dep in code:
        inside = {path: files[path] for path in files if below(path, dep["path"])}
        covered |= inside.keys()
        if dep["md5"] != _entry(dep["path"], inside)["md5"]:
            return None
    if covered != files.keys():
        return None
    new = [_entry(dep, {path: files[path] for path in files if below(path, dep)}) for dep in named]
    data = [dep for dep in recorded if not is_code(dep["path"])]
    return sorted(data + new, key=lambda dep: str(dep["path"]))


def _files(tree: Tree, dep: str) -> list[str]:
    return without_ignored(tree, tree.files(dep)) or ([dep] if tree.has(dep) else [])


def _entry(dep: str, files: dict[str, bytes]) -> dict[str, Any]:
    """Return what DVC would record of the dependency `dep`, a file or a folder."""
    size = sum(map(len, files.values()))
    if dep in files:
        return {"path": dep, "hash": "md5", "md5": md5_of(files[dep]), "size": size}
    listing = {path[len(dep) + 1 :]: md5_of(content) for path, content in files.items()}
    md5 = directory_hash(listing)
    return {"path": dep, "hash": "md5", "md5": md5, "size": size, "nfiles": len(files)}
