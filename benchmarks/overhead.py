"""What the pipeline itself costs in the demonstration: everything but what stages compute, by
stage.

    python -m benchmarks.overhead

Regenerates the whole graph in a copy of the working tree without a cache, as a fresh clone does,
which takes as long as `make repro`, alone on the machine. A stage's wall time runs from DVC's
naming it to its naming the next. Its work runs from the first line of the stage's main to its last;
before it come the seal and the imports. What is left is DVC's (hashing, copying, writing dvc.lock),
with the interpreter's start and end. In the work are the checksums that stages write and verify:
three times what hashing all outputs once takes is counted as overhead for them too.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.timings import DURATIONS
from tools.repository_copy import copy_repository

CHECKSUM_PASSES = 3  # written, and verified by about two readers


def run(root: Path) -> tuple[float, dict[str, float]]:
    """Run the graph; return the wall seconds of all, and of each stage by its instance's name."""
    # Where Python keeps bytecode, as it does unless it is told not to.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment = {
        **kept,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }
    began: list[tuple[str, float]] = []
    said: deque[str] = deque(maxlen=20)
    started = time.perf_counter()
    command = [sys.executable, "-m", "pipeline.dvc_support.repro"]
    with subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        for line in process.stdout:
            if found := re.match(r"Running stage '(.+)':", line):
                began.append((found[1], time.perf_counter()))
                print(f"\r{len(began)} stages", end="", file=sys.stderr)
            said.append(line)
    ended = time.perf_counter()
    print(file=sys.stderr)
    if process.returncode:
        sys.exit(
            "".join(said)
            + "error: overhead: make repro's dvc failed, as above; mend it and measure again"
        )
    ends = [*(at for _, at in began[1:]), ended]
    return ended - started, {name: end - at for (name, at), end in zip(began, ends, strict=True)}


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
    argparse.ArgumentParser(description=__doc__, formatter_class=layout).parse_args()
    with tempfile.TemporaryDirectory(prefix=".benchmark.", dir=REPOSITORY) as directory:
        root = Path(directory)
        copy_repository(
            REPOSITORY, root, ("metrics/", "plots/")
        )  # where they are as committed, their stages need not run
        total, wall = run(root)
        if wall.keys() != read_instances(WorkingTree(root)).keys():
            sys.exit("error: not every stage has run, so the table would not be of the whole graph")
        process = {name: read_duration(root, name) for name in wall}
        checksums = CHECKSUM_PASSES * hashing_seconds(root)
    print_table(total, wall, process, checksums)


def read_duration(root: Path, name: str) -> tuple[float, float]:
    """Return the seconds from the seal's beginning to the stage's end, and those of its main."""
    sealed, work = (root / DURATIONS / name).read_text().split()
    return float(sealed), float(work)


def print_table(
    total: float, wall: dict[str, float], process: dict[str, tuple[float, float]], checksums: float
) -> None:
    counts, walls, works, imports = Counter(), Counter(), Counter(), Counter()
    for name, (sealed, work) in process.items():
        stage = name.split("@")[0]
        counts[stage] += 1
        walls[stage] += wall[name]
        works[stage] += work
        imports[stage] += sealed - work
    print(
        "| stage | runs | wall, s | work, s | imports, s | DVC, s | overhead"
        " |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    for stage, count in counts.items():
        print(
            row(
                stage,
                count,
                walls[stage],
                works[stage],
                imports[stage],
                walls[stage] - works[stage] - imports[stage],
            )
        )
    before = total - sum(walls.values())
    print(f"| before the first | | {before:.1f} | | | {before:.1f} | |")
    print(f"| checksums in the work, at most | | | {-checksums:.1f} | | {checksums:.1f} | |")
    computed = sum(works.values()) - checksums
    print(
        row(
            "all",
            sum(counts.values()),
            total,
            computed,
            sum(imports.values()),
            total - computed - sum(imports.values()),
        )
    )


def row(name: str, count: int, wall: float, work: float, imports: float, rest: float) -> str:
    return (
        f"| {name} | {count} | {wall:.1f} | {work:.1f} | {imports:.1f} | {rest:.1f} |"
        f" {1 - work / wall:.1%} |"
    )


if __name__ == "__main__":
    main()
