"""The scratch folder, where a stage's finished pieces survive a kill, and the instance's lock.

model/runtime/resumable.py writes the pieces. For the output data/tokens/baseline they lie in

    data/tokens/.baseline.scratch/FINGERPRINT/

FINGERPRINT is a hash of the command, the inputs and the parameters. After an edit of one of them
the hash is another, so a resumed run never finds pieces of other inputs.
"""

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

from common.files import CHECKSUMS, SCRATCH
from pipeline.declared.dvc_yaml import Instance, parameter_values
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.settings import SETTINGS
from pipeline.seal.input_contents import Known, file_sha256, known_by
from pipeline.seal.parent_death import end_with_parent


def scratch_of(instance: Instance) -> str | None:
    """Return the folder beside the first output that holds the scratch folder.

    None if dvc.yaml does not declare the stage as resumable.
    """
    if not instance.meta.get("resumable") or not instance.outs:
        return None
    folder, name = os.path.split(instance.outs[0])
    return os.path.join(folder, f".{name}.scratch")


def make_scratch(root: Path, instance: Instance, name: str | None, shared: bool) -> list[Path]:
    """Create the scratch folder of this work below `name` and put its path into the environment.

    Removes pieces of other work below `name`. At exit, removes the folder if it is empty. Does
    neither if other processes make shares of the work (`shared`). Returns what the stage may write
    besides its outputs.
    """
    os.environ.pop(SCRATCH, None)
    if name is None:
        return []
    parent = root / name
    directory = parent / fingerprint(root, instance)
    directory.mkdir(parents=True, exist_ok=True)
    os.environ[SCRATCH] = str(directory)
    if shared:
        return [parent]
    for other in parent.iterdir():
        if other != directory:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    _remove_empty_at_exit([directory, parent])
    return [parent]


def fingerprint(root: Path, instance: Instance) -> str:
    """Return a SHA-256 of all that the instance's work depends on: command, inputs, parameters.

    For a folder with SHA256SUMS, that file is hashed: its readers verify it. Parameters that only
    check a finished input (pyproject.toml: judged) are left out, so correcting an expected count
    or checksum does not download the input again.
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
    judged = {
        key
        for key, others in SETTINGS.judged.items()
        if all(value.get(name) == expected for name, expected in others.items())
    }
    return {key: _without_verdicts(child) for key, child in value.items() if key not in judged}


def _known_by(root: Path, dep: str) -> dict[str, Known]:
    sums = root / dep / CHECKSUMS
    return {dep: file_sha256(sums)} if sums.is_file() else known_by(root, dep)


def _remove_empty_at_exit(paths: list[Path]) -> None:
    process = os.getpid()

    def remove() -> None:
        # A forked child inherits this function.
        if os.getpid() == process:
            with contextlib.suppress(OSError):  # the folder holds pieces
                for path in paths:
                    path.rmdir()

    atexit.register(remove)


def lock_instance(name: str, path: Path, descriptor: int) -> None:
    """Lock `path`, open as `descriptor`, until this process and all its forks have ended.

    Exits if another process has the lock. A killed dvc may leave its stage running; without the
    lock the next dvc would start the stage again on the same files. A lock by flock belongs to the
    open file, which forks inherit: the kernel frees it when the last of them ends.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holders = " ".join(_holders(path))
        sys.exit(
            f"error: seal: {name} is already run by another process "
            f"({holders or 'of another user or machine'}), as a killed dvc leaves one; "
            f"wait until it ends, or kill {holders or 'it there'}"
        )


def _holders(path: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or another user's
            if process.name != str(os.getpid()) and any(
                os.readlink(fd) == str(path) for fd in (process / "fd").iterdir()
            ):
                found.append(process.name)
    return sorted(found, key=int)


def end_children_with_this_process() -> None:
    """Kill forked workers when this process dies: they would wait and hold its lock for ever."""
    if not sys.platform.startswith("linux"):
        return
    parents = {}

    def before() -> None:
        # The kernel's "parent" is the forking thread. Only the main thread lives as long as the
        # process, so a fork of another thread would be killed too early.
        parents["of the next"] = (
            os.getpid() if threading.current_thread() is threading.main_thread() else None
        )

    def after() -> None:
        parent = parents["of the next"]
        if parent is not None:
            end_with_parent(signal.SIGKILL, parent)

    os.register_at_fork(before=before, after_in_child=after)
