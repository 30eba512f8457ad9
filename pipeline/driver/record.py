"""What DVC knows of a run: the graph, what changed, the run cache, and the entries of dvc.lock.

While the driver runs, this is the only writer of dvc.lock and of DVC's cache. Everything of DVC is
called here, in one thread, as `dvc repro` calls it for one stage. DVC's lock is held for each call
and not between them, so other dvc commands work meanwhile; the paths of an instance that runs are
in DVC's rwlock, so no other dvc replaces them.
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

# What an instance made that has succeeded and is not recorded yet: hashing it may take minutes.
FINISHED = Path(".dvc/tmp/driver/finished")
# DVC draws no bars if these loggers are quiet; in a terminal they would cross the driver's table.
_BARS = ("dvc.progress", "dvc_data.callbacks")


class Instances(NamedTuple):
    """The instances to bring up to date, in the order of `dvc repro`, by name.

    `upstream` has the instances that each depends on; `waiting` are those that have changed or
    depend on one that may change.
    """

    commands: dict[str, list[str]]
    folders: dict[str, str]
    upstream: dict[str, frozenset[str]]
    waiting: frozenset[str]


class Found(Enum):
    """What `Recorder.prepare` found about an instance whose upstream is done."""

    UNCHANGED = "unchanged"
    RESTORED = "restored from the run cache"
    RECOVERED = "finished by a run that was killed"
    DONE = "done by DVC itself"  # a stage without a command, an import, a frozen stage
    READY = "ready to run"


class Recorder:
    """DVC's side of a run. Every method raises DvcException where DVC cannot go on."""

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
        """Return the instances of `targets`, those of dvc.yaml if there are none."""
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

        Its paths are held from then on, until `record`, `record_entry` or `failed`.
        """
        stage = self._stages[name]
        with self._locked():
            self._hold(stage)
            found = self._prepare(stage)
            if found is not Found.READY:
                self._release(name)
            return found

    def _prepare(self, stage: Stage) -> Found:
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
        """Hash the outputs into the cache, and write the instance's entry into dvc.lock."""
        stage = self._stages[name]
        note = {"of": _inputs(stage), "outs": _fingerprints(stage.outs)}
        path = self._root / FINISHED / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(note))  # half of it is no JSON, and counts as none
        with self._locked():
            self._save(stage)
            self._release(name)

    def record_entry(self, name: str, entry: dict[str, Any]) -> None:
        """Write an entry that another machine's recorder has made."""
        with self._locked():
            self._write(self._stages[name], entry)
            self._release(name)

    def failed(self, name: str) -> None:
        """Give back the paths of an instance that has not succeeded."""
        with self._locked():
            self._release(name)

    def entry(self, name: str) -> dict[str, Any]:
        """Return the instance's entry, as dvc.lock has it."""
        return dict(to_single_stage_lockfile(self._stages[name]))

    def close(self) -> None:
        self._repo.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Quiet: it would advise to add .gitignore and dvc.lock to git for every instance.
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
        # The names of a dvc.yaml in another folder are not in the order, which changes nothing.
        lock = self._locks.setdefault(path, LockEntries(self._order))
        replace_text(Path(path), lambda text: lock.with_entries(text, {stage.name: entry}))

    def _recovered(self, stage: Stage) -> bool:
        """Return whether a killed run finished this very work, and nobody touched what it made."""
        try:
            note = json.loads((self._root / FINISHED / f"{stage.addressing}.json").read_bytes())
        except (OSError, ValueError):
            return False
        stage.save_deps()
        return bool(note == {"of": _inputs(stage), "outs": _fingerprints(stage.outs)})

    def _forget(self, name: str) -> None:
        (self._root / FINISHED / f"{name}.json").unlink(missing_ok=True)

    def _hold(self, *stages: Stage, write: bool = True) -> None:
        """Enter what the stages read and write into DVC's rwlock, under the name of the first.

        Raises DvcException if another dvc works on one of these paths.
        """
        repo, name = self._repo, stages[0].addressing
        deps = {path for stage in stages for path in _paths(stage.deps)}
        outs = {path for stage in stages for path in _paths(stage.outs)}
        read, written = (deps, outs) if write else (deps | outs, set[str]())
        hard = repo.config["core"].get("hardlink_lock", False)
        # A holder's command is a name of its own: DVC forgets all that has the same.
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
    """Have DVC take no rwlock of its own: the instance's is held, by `_hold`.

    Every method of a stage takes it anew, and rewrites its file twice: 20 times for an instance, a
    quarter of the time that DVC spends on it.
    """
    taken = dvc.rwlock.rwlock
    dvc.rwlock.rwlock = lambda *_: nullcontext()
    try:
        yield
    finally:
        dvc.rwlock.rwlock = taken


def _is_run(stage: Stage) -> bool:
    """Return whether DVC would run a command for it; imports and frozen stages are DVC's own."""
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
    """Return what tells for each file of the outputs whether anybody wrote it since."""
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
    # Those of other repositories are no paths here, and nobody writes them.
    return [
        item.fs_path for item in items if not isinstance(item, RepoDependency | AbstractDependency)
    ]
