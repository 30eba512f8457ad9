"""Call DVC for a run: the graph, what changed, the run cache, the entries of dvc.lock.

While the driver runs, only this module writes dvc.lock and DVC's cache. It calls DVC in one thread,
as `dvc repro` does for one stage:

    plan                   which instances may have to run
    prepare(name)          unchanged, restored, or ready to run: its outputs are removed
    …the driver runs it…
    record(name)           hash the outputs into the cache, write its entry into dvc.lock
      or failed(name)      give its paths back

Two of DVC's locks. The repository's lock is held during each call, but not between calls, so other
dvc commands work meanwhile. The rwlock has the paths of each instance from `prepare` to `record` or
`failed`, so no other dvc replaces them.
"""

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import dvc.rwlock
from dvc.dependency.db import AbstractDependency
from dvc.dependency.repo import RepoDependency
from dvc.dvcfile import PROJECT_FILE
from dvc.output import Output
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.rwlock import rwlock
from dvc.stage import PipelineStage, Stage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.serialize import to_single_stage_lockfile

from pipeline.dvc_support.lock_entries import LockEntries, replace_text

# Notes about instances that have succeeded but are not recorded yet: hashing may take minutes, and
# after a kill meanwhile the next run need not repeat the work.
FINISHED = Path(".dvc/tmp/driver/finished")
# DVC draws no bars if these loggers are quiet; its bars would garble the driver's table.
_BARS = ("dvc.progress", "dvc_data.callbacks")


class Instances(NamedTuple):
    """The instances to bring up to date, by name, in the order of `dvc repro`.

    `upstream` maps each to the instances that it depends on. `waiting` are those that have changed,
    and all that depend on one of these.
    """

    commands: dict[str, list[str]]
    folders: dict[str, str]
    upstream: dict[str, frozenset[str]]
    waiting: frozenset[str]


class Found(Enum):
    """The result of `Recorder.prepare` for an instance whose upstream is done."""

    UNCHANGED = "unchanged"
    RESTORED = "restored from the run cache"
    RECOVERED = "finished by a run that was killed"
    DONE = "done by DVC itself"  # an import, a frozen stage, a stage without a command
    READY = "ready to run"


class Recorder:
    """DVC's side of a run. Every method raises DvcException if DVC fails."""

    def __init__(self, root: Path):
        for name in _BARS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._root = root
        self._repo = Repo(str(root), _wait_for_lock=True)
        self._stages: dict[str, Stage] = {}
        self._order: list[str] = []
        self._locks: dict[str, LockEntries] = {}  # by path
        self._held: dict[str, AbstractContextManager[None]] = {}

    def plan(self, targets: Sequence[str] = ()) -> Instances:
        """Return the instances of `targets`; without targets, all of dvc.yaml."""
        repo = self._repo
        with self._locked():
            graph = get_active_graph(repo.index.graph)
            stages = collect_stages(repo, targets or [PROJECT_FILE])
            self._order = [stage.addressing for stage in plan_repro(graph)]
            steps = plan_repro(graph, stages)
            self._stages = {stage.addressing: stage for stage in steps}
            upstream = {
                stage.addressing: frozenset(up.addressing for up in graph.successors(stage))
                for stage in steps
            }
            waiting: set[str] = set()
            # Comparing with dvc.lock reads every path. Held for reading, so that no other dvc
            # replaces one meanwhile.
            if steps:
                self._hold(*steps, write=False)
            for name, stage in self._stages.items():
                if upstream[name] & waiting or not _is_run(stage) or stage.changed():
                    waiting.add(name)
            if steps:
                self._release(steps[0].addressing)
        commands = {name: _commands(stage) for name, stage in self._stages.items()}
        folders = {
            name: os.path.relpath(stage.wdir, self._root) for name, stage in self._stages.items()
        }
        return Instances(commands, folders, upstream, frozenset(waiting))

    @property
    def cache(self) -> Path:
        """The folder of DVC's cache."""
        return Path(self._repo.cache.local_cache_dir)

    def prepare(self, name: str) -> Found:
        """Skip or restore the instance; if it has to run, remove its outputs.

        If it has to run, its paths stay in the rwlock until `record`, `record_entry` or `failed`.
        """
        stage = self._stages[name]
        with self._locked():
            self._hold(stage)
            found = self._prepare(stage)
            if found is not Found.READY:
                self._release(name)
            return found

    def _prepare(self, stage: Stage) -> Found:
        """Find out, in this order, whether the instance is DVC's own, unchanged, or recovered.

        Only then remove its outputs and try the run cache: a result that a killed run has finished
        must not be removed.
        """
        if not _is_run(stage):
            stage.reproduce()
            self._write_entry(stage)
            return Found.DONE
        if not stage.changed():
            self._forget(stage.addressing)
            return Found.UNCHANGED
        if self._recovered(stage):
            self._save(stage)
            return Found.RECOVERED
        stage.remove_outs(ignore_remove=False, force=False)
        try:
            self._repo.stage_cache.restore(stage)
        except RunCacheNotFoundError:
            stage.save_deps()
            return Found.READY
        self._save(stage)
        return Found.RESTORED

    def record(self, name: str) -> None:
        """Hash the outputs into the cache, and write the instance's entry into dvc.lock.

        The note in FINISHED comes first and is removed last. After a kill in between, `_recovered`
        finds it and records the outputs without running the instance again.
        """
        stage = self._stages[name]
        note = {"of": _inputs(stage), "outs": _fingerprints(stage.outs)}
        path = self._root / FINISHED / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(note))  # a kill may leave half a note, which is ignored
        with self._locked():
            self._save(stage)
            self._release(name)

    def record_entry(self, name: str, entry: dict[str, Any]) -> None:
        """Write an entry that the recorder of another machine has made."""
        with self._locked():
            self._write(self._stages[name], entry)
            self._release(name)

    def failed(self, name: str) -> None:
        """Release the paths of an instance that has not succeeded."""
        with self._locked():
            self._release(name)

    def entry(self, name: str) -> dict[str, Any]:
        """Return the instance's entry, as dvc.lock has it."""
        return dict(to_single_stage_lockfile(self._stages[name]))

    def close(self) -> None:
        self._repo.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # quiet: otherwise DVC advises, for every instance, to add .gitignore and dvc.lock to git.
        with self._repo.lock, self._repo.scm_context(quiet=True), _holding_once():
            yield

    def _save(self, stage: Stage) -> None:
        plain = [out for out in stage.outs if not (out.is_metric or out.is_plot)]
        # DVC has no run cache for a stage with plain outputs that it does not cache.
        stage.save(run_cache=all(out.use_cache for out in plain))
        stage.commit()
        self._write_entry(stage)
        self._forget(stage.addressing)

    def _write_entry(self, stage: Stage) -> None:
        if isinstance(stage, PipelineStage):
            self._write(stage, to_single_stage_lockfile(stage))
        else:
            stage.dump(update_pipeline=False)

    def _write(self, stage: Stage, entry: dict[str, Any]) -> None:
        path = stage.dvcfile._lockfile.path
        # Names of a dvc.yaml in another folder are not in the order, and so come last.
        lock = self._locks.setdefault(path, LockEntries(self._order))
        replace_text(Path(path), lambda text: lock.with_entries(text, {stage.name: entry}))

    def _recovered(self, stage: Stage) -> bool:
        """Return whether a killed run finished this work, and its outputs are untouched since."""
        try:
            note = json.loads((self._root / FINISHED / f"{stage.addressing}.json").read_bytes())
        except (OSError, ValueError):
            return False
        stage.save_deps()
        return bool(note == {"of": _inputs(stage), "outs": _fingerprints(stage.outs)})

    def _forget(self, name: str) -> None:
        (self._root / FINISHED / f"{name}.json").unlink(missing_ok=True)

    def _hold(self, *stages: Stage, write: bool = True) -> None:
        """Enter the paths that the stages read and write into DVC's rwlock.

        The entry is under the name of the first. Raises DvcException if another dvc works on one of
        these paths.
        """
        repo, name = self._repo, stages[0].addressing
        deps = {path for stage in stages for path in _paths(stage.deps)}
        outs = {path for stage in stages for path in _paths(stage.outs)}
        read, written = (deps, outs) if write else (deps | outs, set[str]())
        hard = repo.config["core"].get("hardlink_lock", False)
        # DVC removes all entries of the same command at once, so each instance has its own.
        command = f"pipeline.driver {name}"
        held = rwlock(repo.tmp_dir, repo.fs, command, sorted(read), sorted(written), hard)
        held.__enter__()
        self._held[name] = held

    def _release(self, name: str) -> None:
        held = self._held.pop(name, None)
        if held is not None:
            held.__exit__(None, None, None)


@contextmanager
def _holding_once() -> Iterator[None]:
    """Replace DVC's own rwlock by nothing: `_hold` has entered the instance's paths already.

    Each method of a DVC stage would take the rwlock again and rewrite its file twice. That is 20
    times for an instance, and a quarter of the time that DVC spends on it.
    """
    taken = dvc.rwlock.rwlock
    dvc.rwlock.rwlock = lambda *_: nullcontext()
    try:
        yield
    finally:
        dvc.rwlock.rwlock = taken


def _is_run(stage: Stage) -> bool:
    """Return whether the stage has a command to run; DVC handles imports and frozen stages."""
    return isinstance(stage, PipelineStage) and bool(stage.cmd) and not stage.frozen


def _commands(stage: Stage) -> list[str]:
    cmd = stage.cmd or []
    return list(cmd) if isinstance(cmd, list) else cmd.splitlines()


def _inputs(stage: Stage) -> dict[str, Any]:
    """Return the instance's entry without its outputs: command, dependencies and parameters."""
    found: dict[str, Any] = json.loads(json.dumps(_without_outs(stage)))
    return found


def _without_outs(stage: Stage) -> dict[str, Any]:
    outs, stage.outs = stage.outs, []
    try:
        return dict(to_single_stage_lockfile(stage))
    finally:
        stage.outs = outs


def _fingerprints(outs: Sequence[Output]) -> dict[str, list[Any]]:
    """Return [inode, size, mtime] of each file of the outputs, to notice a later write."""
    found: dict[str, list[Any]] = {}
    for out in outs:
        files = [out.fs_path]
        if os.path.isdir(out.fs_path):
            files = [
                os.path.join(folder, name)
                for folder, _, names in os.walk(out.fs_path)
                for name in names
            ]
        for path in sorted(files):
            try:
                about = os.stat(path)
            except OSError:
                found[path] = []
            else:
                found[path] = [about.st_ino, about.st_size, about.st_mtime_ns]
    return found


def _paths(items: Sequence[Output]) -> list[str]:
    # Imports from other repositories have no path here.
    return [
        item.fs_path for item in items if not isinstance(item, RepoDependency | AbstractDependency)
    ]
