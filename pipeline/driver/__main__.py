"""Do what `dvc repro` does, with all ready instances side by side (`make repro`).

DVC provides the graph and finds what has changed. The driver restores what the run cache has, and
runs the rest: each instance in its own process, with its share of the cores. It records each
instance as DVC does. Only the driver writes dvc.lock, one entry at a time, by a rename. So
`dvc repro` can follow at any time, even after a kill: it continues, and leaves the same bytes.

After a failure nothing new starts; running instances end and are recorded. Ctrl-C stops the running
instances; resumable stages continue next time.

An instance with `device: cuda` in its section of params.yaml gets `processes` GPUs of its own
(CUDA_VISIBLE_DEVICES). They are taken from DEVICES=0,1,…, or else from all GPUs here. If
PIPELINE_THREADS is set, each instance gets that many threads instead of its share.

Reads dvc.yaml, params.yaml and dvc.lock. Writes the stages' outputs, dvc.lock, and while it runs
the state that `make watch` shows.

    python -m pipeline.driver                 all that is out of date, on this machine
    python -m pipeline.driver --jobs 2        at most two instances side by side
    python -m pipeline.driver export          one stage, and what it depends on
    python -m pipeline.driver --cluster tls://HOST:8786    on the workers of a Dask cluster
"""

import argparse
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from dvc.exceptions import DvcException

from pipeline.declared.dvc_yaml import PARAMS, read_mapping
from pipeline.declared.faults import FAULTS
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph
from pipeline.declared.timings import DURATIONS
from pipeline.driver.local import LocalPlace
from pipeline.driver.place import Machine
from pipeline.driver.record import Recorder
from pipeline.driver.run import Run
from pipeline.driver.schedule import Schedule
from pipeline.driver.state_file import STATE, StateFileView
from pipeline.driver.view import make_view
from pipeline.dvc_support.objects import seed
from pipeline.dvc_support.rwlock import remove_untrue
from pipeline.terminal.command_lines import command_line

if TYPE_CHECKING:
    from pipeline.driver.cluster import ClusterPlace

FOLDER = Path(".dvc/tmp/driver")
LINUX = sys.platform == "linux"
_PATIENCE = 20.0  # seconds to wait until a killed driver's stages have ended


def main() -> None:
    _take_back_streams()
    options = _options()
    root = Path.cwd()
    lock = _only_one(root)
    if removed := remove_untrue(root):
        print(removed, file=sys.stderr)
    try:
        recorder = Recorder(root)
        instances = recorder.plan(options.stages)
    except (DvcException, OSError) as error:
        sys.exit(f"error: driver: {' '.join(str(error).split())}")
    waiting = [name for name in instances.upstream if name in instances.waiting]
    if not waiting:
        print("Everything is up to date.")
        return
    with suppress(*FAULTS):  # seeding is only an optimization
        seed(Graph(WorkingTree(root)), recorder.cache)
    seconds = recorded_seconds(root, waiting)
    place = _place(root, waiting, options, lock)
    view = StateFileView(make_view(), root / STATE)
    upstream = {name: instances.upstream[name] for name in waiting}
    view.planned(waiting, seconds, upstream, place.machine.slots)
    schedule = Schedule(
        upstream,
        place.machine,
        seconds,
        _devices_asked(root, waiting),
    )
    run = Run(instances, schedule, recorder, place, view)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        # Keep ignoring what the caller ignores: nohup SIGHUP, a shell's background job SIGINT.
        if number == signal.SIGTERM or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: run.ask_to_stop(number))
    try:
        run.to_the_end()
    finally:
        view.closed()
        place.close()
        recorder.close()
    if run.stopping is not None or run.failed:
        sys.exit(1)  # the view has printed why, and what to do


def _place(
    root: Path, waiting: Sequence[str], options: argparse.Namespace, lock: int
) -> "LocalPlace | ClusterPlace":
    machine = _machine(options.jobs)
    if options.cluster is None:
        return LocalPlace(root, waiting, machine, [lock])
    from pipeline.driver.cluster import (
        ClusterError,
        ClusterPlace,
    )  # imports Dask, which takes a second

    try:
        return ClusterPlace(root, options.cluster, LocalPlace(root, (), machine, [lock]))
    except ClusterError as error:
        sys.exit(f"error: cluster: {error}")


def _options() -> argparse.Namespace:
    parser = command_line("pipeline.driver", __doc__, changes=True)
    parser.add_argument(
        "stages",
        nargs="*",
        metavar="STAGE",
        help="stages or instances, named as for dvc repro (default: all)",
    )
    parser.add_argument(
        "--jobs", metavar="N", help="how many instances side by side (default: one per core)"
    )
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="run on the workers of this Dask scheduler or its scheduler file (docs/operations.md)",
    )
    options = parser.parse_args()
    if options.jobs is not None and options.cluster is not None:
        parser.error(
            "--jobs is for this machine; a worker has as many slots as dask worker --nthreads"
        )
    if options.jobs is not None:
        if not re.fullmatch("[1-9][0-9]*", options.jobs):
            parser.error(f"--jobs is a whole number above 0, not {options.jobs!r}")
        options.jobs = int(options.jobs)
    return options


def _take_back_streams() -> None:
    # Importing DVC replaces the streams by colorama's, which only Windows needs.
    if type(sys.stdout).__module__.startswith("colorama"):
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def _only_one(root: Path) -> int:
    """Take the lock of the only driver, or exit; return its descriptor.

    Stages inherit the lock, so those of a killed driver hold it until they end.
    """
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    lock = os.open(root / FOLDER / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                sys.exit(
                    "error: driver: another one runs here, or stages that a killed one has "
                    "started; wait for them, or end them"
                )
            time.sleep(0.1)
        else:
            return lock


def recorded_seconds(root: Path, names: Sequence[str]) -> dict[str, float]:
    """Return the seconds of each instance's last run here, if there was one."""
    found = {}
    for name in names:
        with suppress(OSError, ValueError, IndexError):
            found[name] = float((root / DURATIONS / name).read_text().split()[0])
    return found


def _machine(jobs: int | None) -> Machine:
    cores = len(psutil.Process().cpu_affinity()) if LINUX else os.cpu_count() or 1
    return Machine(jobs or cores, cores, tuple(_devices()))


def _devices() -> list[str]:
    chosen = os.environ.get("DEVICES") or os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None and shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        asked = subprocess.run(query, capture_output=True, text=True)
        chosen = ",".join(re.findall("[0-9]+", asked.stdout)) if asked.returncode == 0 else ""
    return [device for device in (chosen or "").split(",") if device]


def _devices_asked(root: Path, names: Sequence[str]) -> dict[str, int]:
    """Return how many GPUs each instance needs, from its stage's section of params.yaml."""
    try:
        params = read_mapping(WorkingTree(root), PARAMS)
    except FAULTS:  # a project may have no params.yaml
        return {}
    sections = {name: params.get(name.partition("@")[0]) for name in names}
    return {
        name: section.get("processes", 1)
        for name, section in sections.items()
        if isinstance(section, dict) and section.get("device") == "cuda"
    }


if __name__ == "__main__":
    main()
