"""Compare dvc.lock with the tree, from text alone: no output data is needed.

DVC's own check without data (`dvc repro --dry --allow-missing`) does not look into output
directories. It passes a stage whose dependency is part of one (treeverse/dvc#11099). So a stage
lists the files of such directories in dvc.contents.json. A list counts only if its hash is the one
that dvc.lock records:

    dvc.lock             checkpoints/baseline/seed_1337: 1f2e….dir    the hash of this listing:
    dvc.contents.json    checkpoints/baseline/seed_1337/step_1500/SHA256SUMS: fd7f…
                         checkpoints/baseline/seed_1337/step_1500/config.json: 3ee0…
                         …
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from common.yaml_file import load
from pipeline.declared.code_imports import is_code
from pipeline.declared.dvc_yaml import (
    GRAPH,
    LINK,
    Instance,
    below,
    read_instances,
    read_mapping,
    value_or_none,
    verdicts,
)
from pipeline.declared.file_trees import GitTree, Tree, changing_commits, without_ignored

LOCK = "dvc.lock"
CONTENTS = "dvc.contents.json"

Entries = dict[str, str]  # MD5 by path, relative to a directory


class MissingContents(Exception):
    """dvc.lock records a directory's hash, but dvc.contents.json does not list its files."""


class Recorded(NamedTuple):
    """One stage of dvc.lock: MD5 of deps and outs by path, values of params by file and key."""

    command: str
    deps: dict[str, str]
    params: dict[str, dict[str, Any]]
    outs: dict[str, str]


class Graph:
    """The stages that a tree declares, and the record of their last run.

    The record is that of `recorded_in`, by default of the same tree.
    """

    def __init__(self, tree: Tree, recorded_in: Tree | None = None):
        records = recorded_in or tree
        self.tree = tree
        self.instances = read_instances(tree)
        self.lock = read_lock(records)
        self.contents: Entries = json.loads(records.read(CONTENTS)) if records.has(CONTENTS) else {}
        # DVC keeps the entries of stages that no longer exist; their outputs are no stage's input.
        mine = [recorded for name, recorded in self.lock.items() if name in self.instances]
        self._made = {path: md5 for recorded in mine for path, md5 in recorded.outs.items()}
        self._records = records
        self._commits: dict[str, GitTree] = {}
        self._listings: dict[tuple[str, str], Entries | None] = {}
        self._hashes: dict[str, str | None] = {}
        self._params: dict[str, Any] = {}

    def stale(self) -> dict[str, list[str]]:
        """Return the reasons by stage, for each stage that would rerun.

        A reason is code, a parameter, a command or an input that differs from the last run's.
        """
        reasons = {name: self._reasons(instance) for name, instance in self.instances.items()}
        return {name: lines for name, lines in reasons.items() if lines}

    def downstream(self, names: set[str]) -> set[str]:
        """Return the stages, other than `names`, that depend on outputs of `names` at any depth."""
        reached = set(names)
        while True:
            outputs = {path for name in reached for path in self.instances[name].outputs}
            outputs -= verdicts(self.instances.values())
            new = {
                name
                for name, instance in self.instances.items()
                if any(
                    below(dep, out) or below(out, dep) for dep in instance.deps for out in outputs
                )
            }
            if new <= reached:
                return reached - names
            reached |= new

    def withdrawn(self) -> list[str]:
        """Return the names in dvc.lock that dvc.yaml and params.yaml no longer give."""
        return sorted(self.lock.keys() - self.instances.keys())

    def _reasons(self, instance: Instance) -> list[str]:
        recorded = self.lock.get(instance.name)
        if recorded is None:
            return ["has never run"]
        lines = []
        if recorded.command != instance.command:
            lines.append(f"its command was {recorded.command!r}")
        lines += self._changed_deps(instance, recorded) + self._changed_params(instance, recorded)
        if set(recorded.outs) != set(instance.outputs):
            lines.append(f"its outputs were {', '.join(sorted(recorded.outs))}")
        return lines

    def _changed_deps(self, instance: Instance, recorded: Recorded) -> list[str]:
        lines = []
        for path in sorted({*instance.deps, *recorded.deps}):
            if path not in recorded.deps:
                lines.append(f"{path} is a new dependency")
            elif path not in instance.deps:
                lines.append(f"{path} is no dependency any more")
            else:
                try:
                    current = self._hash(path)
                except MissingContents as missing:
                    lines.append(str(missing))
                    continue
                if current is None:
                    lines.append(f"{path} is missing")
                elif current != recorded.deps[path]:
                    edits = self._edits(path, recorded.deps[path]) if is_code(path) else []
                    lines += edits or [f"{path} has changed"]
        return lines

    def _edits(self, folder: str, recorded: str) -> list[str]:
        """Return a line for each file that differs from the recorded state of a folder of code.

        dvc.lock has one hash for the whole folder, and DVC keeps no listing of a dependency. So
        search git for a commit whose files have this hash, and compare with that commit's files.
        Returns nothing if there is no such commit.
        """
        now = _listing(self.tree, folder)
        was = self._recorded_listing(folder, recorded) if now else None
        if was is None:
            return []
        return [
            f"{folder}/{name} {_news(name, was, now)}"
            for name in sorted({*now, *was})
            if now.get(name) != was.get(name)
        ]

    def _recorded_listing(self, folder: str, recorded: str) -> Entries | None:
        if (folder, recorded) not in self._listings:
            earlier = (_listing(tree, folder) for tree in self._earlier(folder))
            found = (listing for listing in earlier if directory_hash(listing) == recorded)
            self._listings[folder, recorded] = next(found, None)
        return self._listings[folder, recorded]

    def _earlier(self, folder: str) -> Iterator[Tree]:
        """Yield the tree of the records, and the commits that changed `folder`, newest first."""
        yield self._records
        for commit in changing_commits(self.tree, folder):
            if commit not in self._commits:
                self._commits[commit] = GitTree(self.tree.root, commit)
            yield self._commits[commit]

    def _changed_params(self, instance: Instance, recorded: Recorded) -> list[str]:
        lines = []
        for file in sorted({*instance.params, *recorded.params}):
            was = recorded.params.get(file, {})
            for key in sorted({*instance.params.get(file, ()), *was}):
                now = self._param(file, key)
                if key not in was or now != was[key]:
                    lines.append(f"{file}: {key} has changed" + _change(was.get(key), now))
        return lines

    def _param(self, file: str, key: str) -> Any:
        if file not in self._params:
            self._params[file] = load(self.tree.read(file), file)
        return value_or_none(self._params[file], key)

    def _hash(self, path: str) -> str | None:
        """Return the MD5 of a dependency now; None if it is missing (see `_find_hash`)."""
        if path not in self._hashes:
            self._hashes[path] = self._find_hash(path)
        return self._hashes[path]

    def _find_hash(self, path: str) -> str | None:
        """Return the MD5 of `path`; None if it is missing.

        If the folder a/b is an output:

            a/b           its hash in dvc.lock
            a/b/c.bin     the file's hash, as dvc.contents.json lists it
            a/b/d         a folder's hash, from the listed files below it
            a             a folder's hash, from all outputs below it

        For any other path, hash the file or folder in the tree.
        """
        if path in self._made:
            return self._made[path]
        entries: Entries = {}
        for out, md5 in self._made.items():
            if below(path, out):
                inside = path[len(out) + 1 :]
                listed = self._entries(out, md5)
                if inside in listed:
                    return listed[inside]
                entries |= {
                    name[len(inside) + 1 :]: md5
                    for name, md5 in listed.items()
                    if below(name, inside)
                }
            elif below(out, path):
                prefix = out[len(path) + 1 :]
                listed = (
                    {f"/{name}": md5 for name, md5 in self._entries(out, md5).items()}
                    if md5.endswith(".dir")
                    else {"": md5}
                )
                entries |= {prefix + name: md5 for name, md5 in listed.items()}
        if entries:
            return directory_hash(entries)
        if path == LINK:  # in git a link is the text of its target
            path = GRAPH
        if listing := _listing(self.tree, path):
            return directory_hash(listing)
        return md5_of(self.tree.read(path)) if self.tree.has(path) else None

    def _entries(self, out: str, md5: str) -> Entries:
        entries = {
            path[len(out) + 1 :]: value for path, value in self.contents.items() if below(path, out)
        }
        if directory_hash(entries) != md5:
            raise MissingContents(f"{CONTENTS} does not list the files of {out}")
        return entries


def read_lock(tree: Tree) -> dict[str, Recorded]:
    if not tree.has(LOCK):
        return {}
    stages = read_mapping(tree, LOCK)["stages"]
    return {
        name: Recorded(
            command=entry["cmd"],
            deps={dep["path"]: dep["md5"] for dep in entry.get("deps", [])},
            params=entry.get("params", {}),
            outs={out["path"]: out["md5"] for out in entry.get("outs", [])},
        )
        for name, entry in stages.items()
    }


def _news(name: str, was: Entries, now: Entries) -> str:
    if name not in was:
        return "is new"
    return "has changed" if name in now else "is gone"


def _listing(tree: Tree, folder: str) -> Entries:
    """Return the MD5 of each file below `folder` that DVC sees, by its path below it."""
    files = without_ignored(tree, tree.files(folder))
    return {name[len(folder) + 1 :]: md5_of(tree.read(name)) for name in files}


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def directory_hash(entries: Entries) -> str:
    """Return DVC's hash of a directory: the MD5 of its listing, and ".dir".

    Source: dvc_data.hashfile.tree.Tree.as_bytes.
    """
    listing = [{"md5": entries[name], "relpath": name} for name in sorted(entries)]
    return md5_of(json.dumps(listing, sort_keys=True).encode()) + ".dir"


def _change(was: Any, now: Any) -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        keys = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
        return f" in {', '.join(keys)}"
    return f" from {was} to {now}"


def object_path(cache: Path, md5: str) -> Path:
    """Return where DVC's cache keeps the object with that MD5."""
    return cache / "files" / "md5" / md5[:2] / md5[2:]


def cached_entries(cache: Path, md5: str) -> Entries | None:
    """Return a directory's listing from DVC's cache; None if the cache lacks it."""
    path = object_path(cache, md5)
    if not path.is_file():
        return None
    return {entry["relpath"]: entry["md5"] for entry in json.loads(path.read_bytes())}
