"""Measure what the pipeline itself costs in the demonstration, by stage.

    python -m benchmarks.overhead               as make repro runs it, one instance for each core
    python -m benchmarks.overhead --jobs 1      one after the other: no stage slows another down
    python -m benchmarks.overhead --profile profiles/micro.yaml

Runs the whole graph in a copy of the working tree without a cache, as a fresh clone does. It takes
as long as `make repro`; run nothing else meanwhile. The wall time of an instance has four parts:

    start of an interpreter, or wait for a warm one │ seal and imports │ work │ end

The work runs from the first line of the stage's main to its last. The driver's own seconds include
DVC's hashing and writing. With `--jobs 1` they are the time in which no instance runs; with more
jobs they are its processor time, because it works while instances run.

The overhead is everything except the work, as a part of the processes' wall time plus the driver's
seconds. Stages write and verify checksums during their work. For these, three times the time of
hashing all outputs once is counted as overhead too.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent

from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import CONTENTS
from pipeline.declared.timings import DURATIONS
from tools.repository_copy import copy_repository

CHECKSUM_PASSES = 3  # one to write, and about two readers that verify
MEASURED = Path(".dvc/tmp/overhead.json")  # in the copy


class Run(NamedTuple):
    """Seconds of a run: its wall time, the driver's own, and each process's wall time."""

    total: float
    own: float
    wall: dict[str, float]


def run(root: Path, jobs: int | None) -> Run:
    """Run the graph in the copy at `root`."""
    # Let Python keep bytecode, as it does by default.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "benchmarks.overhead", "--inside"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, *(["--jobs", str(jobs)] if jobs else [])], cwd=root, env=environment
    )
    total = time.perf_counter() - started
    if done.returncode:
        sys.exit("error: overhead: the driver failed, as above; fix it and measure again")
    measured = json.loads((root / MEASURED).read_text())
    wall = measured["wall"]
    own = total - sum(wall.values()) if jobs == 1 else measured["processor"]
    return Run(total, own, wall)


def drive(jobs: int | None) -> None:
    """Run the driver in the copy; record each process's seconds, and this one's."""
    from pipeline.driver import __main__ as driver

    wall: dict[str, float] = {}
    view = driver.make_view()
    shown = view.finished

    def finished(name: str, seconds: float, log: str) -> None:
        wall[name] = seconds
        shown(name, seconds, log)

    view.finished = finished
    driver.make_view = lambda: view
    sys.argv = ["pipeline.driver", *(["--jobs", str(jobs)] if jobs else [])]
    driver.main()
    used = resource.getrusage(resource.RUSAGE_SELF)
    MEASURED.write_text(json.dumps({"wall": wall, "processor": used.ru_utime + used.ru_stime}))


def hashing_seconds(root: Path) -> float:
    outs = [
        root / out
        for instance in read_instances(WorkingTree(root)).values()
        for out in instance.outs
    ]
    files = [
        path
        for out in outs
        for path in ([out] if out.is_file() else sorted(out.rglob("*")))
        if path.is_file()
    ]
    started = time.perf_counter()
    for path in files:
        with open(path, "rb") as file:
            hashlib.file_digest(file, "sha256")
    return time.perf_counter() - started


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument(
        "--jobs", type=int, help="instances side by side (default: as in make repro)"
    )
    parser.add_argument("--profile", type=Path, help="a params file in place of params.yaml")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        drive(options.jobs)
        return
    with tempfile.TemporaryDirectory(prefix=".benchmark.", dir=REPOSITORY) as directory:
        root = Path(directory)
        # Without committed results: their stages would not have to run.
        copy_repository(REPOSITORY, root, ("metrics/", "plots/", CONTENTS))
        if options.profile:
            shutil.copy(options.profile, root / "params.yaml")
            (root / "dvc.lock").unlink()  # it records other instances
        measured = run(root, options.jobs)
        if measured.wall.keys() != read_instances(WorkingTree(root)).keys():
            sys.exit("error: not every stage has run, so the table would not be of the whole graph")
        inside = {name: read_duration(root, name) for name in measured.wall}
        checksums = CHECKSUM_PASSES * hashing_seconds(root)
    print_table(measured, inside, checksums)


def read_duration(root: Path, name: str) -> tuple[float, float]:
    """Return the seconds from the seal's start to the stage's end, and those of its main."""
    sealed, work = (root / DURATIONS / name).read_text().split()
    return float(sealed), float(work)


def print_table(measured: Run, inside: dict[str, tuple[float, float]], checksums: float) -> None:
    counts, walls, works, sealed = Counter(), Counter(), Counter(), Counter()
    for name, seconds in measured.wall.items():
        stage = name.split("@")[0]
        counts[stage] += 1
        walls[stage] += seconds
        sealed[stage] += inside[name][0]
        works[stage] += inside[name][1]
    print(
        "\n| stage | runs | processes, s | work, s | seal and imports, s | start and end, s"
        " | overhead |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    for stage, count in counts.items():
        print(row(stage, count, walls[stage], works[stage], sealed[stage]))
    own, all_walls, all_sealed = measured.own, walls.total(), sealed.total()
    print(f"| driver and DVC | | {own:.1f} | | | {own:.1f} | |")
    print(f"| checksums in the work, at most | | | {-checksums:.1f} | | {checksums:.1f} | |")
    computed = works.total() - checksums
    # This moves the seconds of the checksums from the work to the column before the last.
    print(row("all", counts.total(), all_walls + own, computed, all_sealed - checksums))
    print(f"\nwall time of the run: {measured.total:.1f} s")


def row(name: str, count: int, wall: float, work: float, sealed: float) -> str:
    seconds = " | ".join(f"{each:.1f}" for each in (wall, work, sealed - work, wall - sealed))
    return f"| {name} | {count} | {seconds} | {1 - work / wall:.1%} |"


if __name__ == "__main__":
    main()
