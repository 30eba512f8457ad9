"""Prepare what a worker without the driver's folder needs: a commit, and an instance's inputs.

    code, dvc.yaml, params.yaml                  with the commit, which the worker fetches by git
    outputs of other instances, cached by DVC    from the DVC remote, by their entries of dvc.lock
    metrics and plots, which DVC does not cache  sent with the instance, since they are small

An instance with any other input (a file that git ignores, or one outside the repository) cannot run
on such a worker.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dvc.dependency.param import ParamsDependency
from dvc.output import Output
from dvc.repo import Repo
from dvc.utils.serialize import parse_yaml

from common.files import write_bytes
from pipeline.declared.dvc_yaml import below
from pipeline.declared.lockfile import LOCK
from pipeline.driver.elsewhere import REQUEST, files_below
from pipeline.driver.place import Outcome
from pipeline.driver.worker import FOLDER
from pipeline.dvc_support.lock_entries import ENTRY, HEAD

LARGEST = 32 << 20  # bytes of metrics and plots; with more, an instance cannot run elsewhere
_SHOWN = 3  # files of a list in a message


class NotSendable(Exception):
    """The reason why a worker cannot fetch this tree as a commit; a clause that follows "and"."""


class _Out(NamedTuple):
    path: str
    cached: bool
    stage: str


class _Instance(NamedTuple):
    meta: dict[str, Any]
    deps: list[str]
    outs: list[_Out]


class Commit:
    """The instances of the tree at `root`, and its commit."""

    def __init__(self, root: Path):
        self._root = root
        with Repo(str(root)) as repo:
            self._instances = {
                stage.addressing: _Instance(
                    dict(stage.meta or {}),
                    sorted({self._path(dep) for dep in stage.deps}),
                    [_Out(self._path(out), out.use_cache, stage.addressing) for out in stage.outs],
                )
                for stage in repo.index.stages
            }
        self._outs = [out for instance in self._instances.values() for out in instance.outs]
        self._tracked: set[str] | None = None

    def meta(self, name: str) -> dict[str, Any]:
        """Return the instance's `meta` in dvc.yaml."""
        return self._instances[name].meta

    def written(self, name: str) -> set[str]:
        """Return the paths that an instance writes but DVC does not cache."""
        instance = self._instances[name]
        timings = instance.meta.get("timings")
        more = {timings} if isinstance(timings, str) else set()
        return {out.path for out in instance.outs if not out.cached} | more

    def sendable(self) -> tuple[str, list[str]]:
        """Return the commit, and the addresses of git remotes that may have it.

        Raises NotSendable if an uncommitted change may affect a result.
        """
        try:
            commit = self._git("rev-parse", "--verify", "HEAD").strip()
            changed = self._git("status", "--porcelain", "-z", "--no-renames", "-uall").split("\0")
        except subprocess.CalledProcessError:
            raise NotSendable("this folder is no git repository with a commit") from None
        found = sorted(
            line[3:] for line in changed if line and self._is_input(line[3:], new=line[0] == "?")
        )
        if found:
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise NotSendable(
                f"this one has uncommitted changes ({', '.join(found[:_SHOWN])}{more}); commit and "
                "push them"
            )
        remotes = self._git("remote").split()
        return commit, [self._git("remote", "get-url", name).strip() for name in remotes]

    def has_inputs(self, name: str) -> bool:
        """Return whether a worker can get all inputs of an instance."""
        for dep in self._instances[name].deps:
            if not (self._made(dep) or self._is_tracked(dep)):
                return False
        sizes = (path.stat().st_size for path in self._files(self._small(name)))
        return sum(sizes) <= LARGEST

    def upstream(self, name: str) -> set[str]:
        """Return the instances whose outputs a worker pulls from the DVC remote for `name`."""
        deps = self._instances[name].deps
        return {out.stage for dep in deps for out in self._made(dep) if out.cached}

    def inputs(self, name: str) -> dict[str, Any]:
        """Return what to send to a worker for an instance.

        `request` is for pipeline/driver/elsewhere.py. `sent` are the paths of metrics and plots,
        and `files` has the content of every file in them.
        """
        text = (self._root / LOCK).read_text() if (self._root / LOCK).exists() else ""
        upstream = self.upstream(name)
        entries = [match[0] for match in ENTRY.finditer(text) if match[1] in upstream]
        # If the instance reads only a part of an output, pull that part.
        pull = {
            dep if below(dep, out.path) else out.path
            for dep in self._instances[name].deps
            for out in self._made(dep)
            if out.cached
        }
        return {
            "request": {"entries": HEAD + "".join(entries), "pull": sorted(pull)},
            "sent": sorted(self._small(name)),
            "files": {
                path.relative_to(self._root).as_posix(): path.read_bytes()
                for path in self._files(self._small(name))
            },
        }

    def _small(self, name: str) -> set[str]:
        deps = self._instances[name].deps
        return {out.path for dep in deps for out in self._made(dep) if not out.cached}

    def _files(self, paths: Iterable[str]) -> list[Path]:
        return [each for path in sorted(paths) for each in files_below(self._root / path)]

    def _made(self, dep: str) -> list[_Out]:
        return [out for out in self._outs if below(dep, out.path) or below(out.path, dep)]

    def _is_tracked(self, path: str) -> bool:
        if self._tracked is None:
            self._tracked = set()
            for file in self._git("ls-files", "-z").split("\0"):
                self._tracked.update([file, *map(str, Path(file).parents)])
        return path in self._tracked

    def _is_input(self, path: str, new: bool) -> bool:
        """Return whether an uncommitted file may change a result.

        dvc.lock, outputs, and new files that no instance depends on cannot.
        """
        if path == LOCK or Path(path).name == ".gitignore":
            return False
        if any(below(path, out.path) for out in self._outs):
            return False
        deps = {dep for instance in self._instances.values() for dep in instance.deps}
        return not new or any(below(path, dep) for dep in deps)

    def _path(self, item: Output) -> str:
        if isinstance(item, ParamsDependency) or item.protocol == "local":
            return os.path.relpath(item.fs_path, self._root)
        return str(item.def_path)  # an address on a remote, which git never tracks

    def _git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self._root, capture_output=True, text=True, check=True
        ).stdout


def fetch_outputs(root: Path, commit: Commit, outcome: Outcome, result: dict[str, Any]) -> Outcome:
    """Bring here what a worker has made: small files as sent, outputs from the DVC remote.

    Returns the outcome with its entry for dvc.lock, or a failed outcome.
    """
    name = outcome.name
    written = commit.written(name)
    if more := sorted(path for path in result["files"] if not _is_in(path, written)):
        return _failed(outcome, f"the worker sent {', '.join(more)}, which is not among its outs")
    folder = FOLDER / "received" / name
    for path, content in result["files"].items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(root / path, content)
    request = {"name": name, "entry": result["entry"]}
    if problem := _by_a_process(root, "receive", folder, request):
        return _failed(outcome, f"its outputs did not arrive: {problem}")
    return outcome._replace(entry=parse_yaml(result["entry"], LOCK))


def push_outputs(root: Path, names: list[str]) -> str:
    """Push the outputs of instances to the DVC remote; return why that failed, or nothing."""
    return _by_a_process(root, "push", FOLDER / "pushed" / names[0], {"names": names})


def _by_a_process(root: Path, what: str, folder: Path, request: dict[str, Any]) -> str:
    """Run pipeline/driver/elsewhere.py for a request; return its error, or nothing."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    write_bytes(root / folder / REQUEST, json.dumps(request).encode())
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.driver.elsewhere", what, str(folder)],
        cwd=root,
        capture_output=True,
        text=True,
        # Ctrl-C must not stop a fetch: the instance is done, and its result will be recorded.
        start_new_session=what == "receive",
    )
    shutil.rmtree(root / folder)
    last = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
    return last.removeprefix("error: ") if done.returncode else ""


def _is_in(path: str, folders: set[str]) -> bool:
    return path == os.path.normpath(path) and any(below(path, each) for each in folders)


def _failed(outcome: Outcome, why: str) -> Outcome:
    return outcome._replace(status=1, log=f"{outcome.log}error: {outcome.name}: {why}\n")
