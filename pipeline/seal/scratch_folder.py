"""Where finished pieces of a stage outlive a kill (model/runtime/resumable.py), and the lock that keeps a second run off them."""

import atexit
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from pipeline.declared.dvc_yaml import Instance, parameter_values
from pipeline.declared.file_trees import WorkingTree
from pipeline.seal.input_contents import Known, file_sha256, known_by
from pipeline.seal.parent_death import end_with_parent

RESUMABLE_STAGES = {"fetch", "corpus", "tokenize", "pretrain", "sft"}
SCRATCH = "PIPELINE_SCRATCH"  # model/runtime/resumable.py reads it
_CHECKSUMS = "SHA256SUMS"  # common/files.py writes it


def scratch_of(instance: Instance) -> str | None:
    """Return the sibling of the instance's first output that holds its scratch folder, None where it has none."""
    if instance.stage not in RESUMABLE_STAGES or not instance.outs:
        return None
    folder, name = os.path.split(instance.outs[0])
    return os.path.join(folder, f".{name}.scratch")


def make_scratch(root: Path, instance: Instance) -> list[Path]:
    """Create the scratch folder of this very work, remove those of any other, and name it in the environment.

    Returns what the stage may write besides its outputs.
    """
    os.environ.pop(SCRATCH, None)
    name = scratch_of(instance)
    if name is None:
        return []
    parent = root / name
    directory = parent / fingerprint(root, instance)
    directory.mkdir(parents=True, exist_ok=True)
    for other in parent.iterdir():
        if other != directory:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    os.environ[SCRATCH] = str(directory)
    _remove_empty_at_exit([directory, parent])
    return [parent]


def fingerprint(root: Path, instance: Instance) -> str:
    """Return a SHA-256 over all that the instance's work depends on: command, inputs, parameters.

    A folder with SHA256SUMS is known by that file, which its readers verify. Parameters that only
    check a finished input are left out: correcting a count or a checksum costs no second download.
    """
    params = {
        key: _without_verdicts(value)
        for key, value in parameter_values(WorkingTree(root), instance).items()
    }
    deps = [_known_by(root, dep) for dep in instance.deps]
    work = {"command": instance.command, "deps": deps, "params": params}
    return hashlib.sha256(json.dumps(work, sort_keys=True).encode()).hexdigest()


def _without_verdicts(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    judged = {"count"} | ({"sha256"} if value.get("kind") == "hub" else set())
    return {key: _without_verdicts(child) for key, child in value.items() if key not in judged}


def _known_by(root: Path, dep: str) -> dict[str, Known]:
    sums = root / dep / _CHECKSUMS
    return {dep: file_sha256(sums)} if sums.is_file() else known_by(root, dep)


def _remove_empty_at_exit(paths: list[Path]) -> None:
    process = os.getpid()

    def remove() -> None:
        with contextlib.suppress(OSError):  # there are pieces in it
            for path in (
                paths if os.getpid() == process else []
            ):  # a forked child shares what it inherited
                path.rmdir()

    atexit.register(remove)


def lock_instance(name: str, path: Path, descriptor: int) -> None:
    """Hold `path`, open as `descriptor`, as long as this process or a child that it forks lives; exit where another does.

    A killed dvc leaves its stage running, and the next one would start it a second time on the same files.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holders = " ".join(_holders(path))
        sys.exit(
            f"error: seal: {name} is already run by another process ({holders or 'of another user or machine'}), "
            f"as a killed dvc leaves one; wait until it ends, or kill {holders or 'it there'}"
        )
    _end_children_with_this_process()


def _holders(path: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or another user's
            if process.name != str(os.getpid()) and any(
                os.readlink(fd) == str(path) for fd in (process / "fd").iterdir()
            ):
                found.append(process.name)
    return sorted(found, key=int)


def _end_children_with_this_process() -> None:
    """Workers that wait for work from a killed stage would wait, and hold its lock, for ever (Linux)."""
    if not sys.platform.startswith("linux"):
        return
    parents = {}

    def before() -> None:
        # The kernel means the thread that forks: only the first one lives as long as the process.
        parents["of the next"] = (
            os.getpid() if threading.current_thread() is threading.main_thread() else None
        )

    def after() -> None:
        parent = parents["of the next"]
        if parent is not None:
            end_with_parent(signal.SIGKILL, parent)

    os.register_at_fork(before=before, after_in_child=after)
