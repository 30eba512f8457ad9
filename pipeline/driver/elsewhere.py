"""Run one instance in a worker's clone, or fetch what such a worker has made.

    python -m pipeline.driver.elsewhere configure CHECKOUT   in a clone: DVC's settings of CHECKOUT
    python -m pipeline.driver.elsewhere run FOLDER           in a clone: one instance
    python -m pipeline.driver.elsewhere push FOLDER          at the driver: outputs made there
    python -m pipeline.driver.elsewhere receive FOLDER       at the driver: outputs made in a clone

Each but `configure` reads request.json in FOLDER. In order, for one instance:

    push       at the driver   {"names"}: push the outputs of these instances to the DVC remote
    run        in the clone    {"name", "entries", "pull"}: add the entries to dvc.lock, pull the
                               inputs, do what the driver does for one instance, push its outputs,
                               write answer.json: its entry, the paths of files that DVC does not
                               cache
    receive    at the driver   {"name", "entry"}: fetch the outputs from the remote, check them out,
                               compare every file with the entry

Reads request.json, dvc.yaml and dvc.lock. Writes outputs, DVC's cache and the DVC remote, dvc.lock
of the clone, and answer.json.
"""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.config import Config
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import PipelineStage
from dvc.stage.loader import StageLoader
from dvc.stage.run import _make_cmd, get_executable
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils.serialize import dumps_yaml, parse_yaml

from common.files import write_bytes
from pipeline.declared.lockfile import LOCK, directory_hash
from pipeline.driver.local import environment_of
from pipeline.driver.place import Job
from pipeline.driver.record import Found, Recorder
from pipeline.dvc_support.lock_entries import replace_text, with_entries
from pipeline.terminal.command_lines import command_line

REQUEST, ANSWER = "request.json", "answer.json"
_AT_ONCE = 1 << 20  # bytes


def configure(root: Path, checkout: Path) -> None:
    """Give the clone at `root` the cache and remotes of `checkout`, the worker's folder."""
    theirs = Config(str(checkout / ".dvc"))
    settings: dict[str, dict[str, Any]] = {"core": {"analytics": False, "check_update": False}}
    for level in ("repo", "local"):
        for section, values in theirs.read(level).items():
            settings.setdefault(section, {}).update(values)
    if not settings["core"].get("remote"):
        sys.exit(f"error: {checkout} has no default DVC remote; dvc remote add -d NAME URL")
    settings.setdefault("cache", {}).setdefault("dir", str(checkout / ".dvc" / "cache"))
    with Config(str(root / ".dvc")).edit("local") as ours:
        ours.clear()
        ours.update(settings)


def run(root: Path, request: dict[str, Any]) -> dict[str, Any] | int:
    """Run an instance with inputs from the DVC remote; return the answer, or a non-zero status."""
    name = request["name"]
    upstream = parse_yaml(request["entries"], LOCK)["stages"] or {}
    replace_text(root / LOCK, lambda text: with_entries(text, upstream) if upstream else text)
    if request["pull"]:
        with _repo(root) as repo:
            repo.pull(targets=request["pull"], force=True)
    recorder = Recorder(root)
    instances = recorder.plan([name])
    found = recorder.prepare(name)
    if found is Found.READY:
        status = _run_commands(root, name, instances.commands[name], instances.folders[name])
        if status:
            recorder.failed(name)
            return status
        recorder.record(name)
    entry = recorder.entry(name)
    recorder.close()
    with _repo(root) as repo:
        repo.push(targets=[name])
        outs = [Path(out.fs_path) for out in _stage(repo, name).outs if not out.use_cache]
    files = [os.path.relpath(each, root) for out in outs for each in files_below(out)]
    return {"entry": dumps_yaml(entry), "files": files}


def files_below(path: Path) -> list[Path]:
    """Return the files below a folder, sorted; for a file, the file itself."""
    inside = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [each for each in inside if each.is_file()]


def _run_commands(root: Path, name: str, commands: list[str], folder: str) -> int:
    # The keeper sends signals to the whole process group. The stage ends by them; this process
    # ignores them, since it has to clean up after the stage.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    environment = environment_of(root, Job(name, tuple(commands), 1))
    for command in commands:
        shell = _make_cmd(get_executable(), command)
        if status := subprocess.run(shell, cwd=root / folder, env=environment).returncode:
            return status
    return 0


def push(root: Path, names: list[str]) -> None:
    """Push the outputs of instances to the DVC remote."""
    with _repo(root) as repo:
        repo.push(targets=names)


def receive(root: Path, request: dict[str, Any]) -> None:
    """Fetch an instance's outputs into the cache and the tree; exit if they are not as recorded."""
    with _repo(root) as repo:
        stage, entry = _stage(repo, request["name"]), parse_yaml(request["entry"], LOCK)
        if other := _other_inputs(stage, entry):
            sys.exit(f"error: {', '.join(other)} differs here from the worker's")
        StageLoader.fill_from_lock(stage, entry)
        for objects in stage.get_used_objs().values():
            repo.cloud.pull(objects)
        for out in stage.outs:
            if out.use_cache:
                out.checkout(force=True)
            if (found := _hash(Path(out.fs_path))) != out.hash_info.value:
                sys.exit(
                    f"error: {_path(root, out)}: the worker recorded {out.hash_info.value}, and "
                    f"what came is {found}; run it again"
                )


def _other_inputs(stage: PipelineStage, entry: dict[str, Any]) -> list[str]:
    """Return the dependencies, or cmd or params, in which a worker's entry differs from here."""
    stage.save_deps()
    stage.outs, outs = [], stage.outs
    ours = json.loads(json.dumps(to_single_stage_lockfile(stage)))
    stage.outs = outs
    theirs = json.loads(json.dumps(entry))
    by_path = [{dep["path"]: dep for dep in each.get("deps", [])} for each in (ours, theirs)]
    found = [path for path in by_path[0] if by_path[0][path] != by_path[1].get(path)]
    return found + [key for key in ("cmd", "params") if ours.get(key) != theirs.get(key)]


def _hash(path: Path) -> str:
    """Return DVC's hash of a file or a folder, from the bytes on the disk."""
    if not path.is_dir():
        return _file_hash(path)
    files = {each.relative_to(path).as_posix(): _file_hash(each) for each in files_below(path)}
    return directory_hash(files)


def _file_hash(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while content := file.read(_AT_ONCE):
            digest.update(content)
    return digest.hexdigest()


@contextmanager
def _repo(root: Path) -> Iterator[Repo]:
    with Repo(str(root), _wait_for_lock=True) as repo:
        yield repo


def _stage(repo: Repo, name: str) -> PipelineStage:
    [stage] = [each for each in repo.index.stages if each.addressing == name]
    return stage


def _path(root: Path, out: Output) -> str:
    return os.path.relpath(out.fs_path, root)


def main() -> None:
    parser = command_line("pipeline.driver.elsewhere", __doc__, changes=True)
    parser.add_argument("what", choices=("configure", "run", "push", "receive"))
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    options = parser.parse_args()
    root = Path.cwd()
    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # the log is for the stage's output only
    try:
        if options.what == "configure":
            configure(root, options.folder)
            return
        request = json.loads((root / options.folder / REQUEST).read_bytes())
        if options.what == "receive":
            receive(root, request)
            return
        if options.what == "push":
            push(root, request["names"])
            return
        answer = run(root, request)
    except (DvcException, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    if isinstance(answer, int):
        if answer < 0:  # end as the stage did
            signal.signal(-answer, signal.SIG_DFL)
            os.kill(os.getpid(), -answer)
        sys.exit(answer)
    write_bytes(root / options.folder / ANSWER, json.dumps(answer).encode())


if __name__ == "__main__":
    main()
