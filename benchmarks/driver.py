"""Measure what the driver costs per instance, beside plain `dvc repro`, on stages that do nothing.

    python -m benchmarks.driver                    1,000 instances with 1, 2 and 4 slots; minutes
    python -m benchmarks.driver --instances 200 --slots 1 --dvc 50 100

Each row is a new project in the system's folder for temporary files. It has one stage, and each of
the stage's instances writes one line to its own file. The cold run runs all instances; the no-op
run has nothing to do. Processor time includes the instances, one shell each. `dvc repro` is
measured with fewer instances, because its time grows with the square of their number.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
DRIVER = [sys.executable, "-m", "pipeline.driver"]
DVC = ["dvc", "repro"]
STAGE = """\
stages:
  empty:
    matrix: {{number: [{numbers}]}}
    cmd: echo ${{item.number}} > made/${{item.number}}
    deps:
      - input
    outs:
      - made/${{item.number}}
"""


class Seconds(NamedTuple):
    wall: float
    processor: float


def make_project(root: Path, instances: int) -> None:
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        subprocess.run(command, cwd=root, check=True)
    for option in ("core.analytics", "core.check_update"):
        subprocess.run(["dvc", "config", option, "false"], cwd=root, check=True)
    (root / "made").mkdir()
    (root / "input").write_text("what every instance depends on\n")
    numbers = ", ".join(map(str, range(instances)))
    (root / "dvc.yaml").write_text(STAGE.format(numbers=numbers))


def measure(command: list[str], root: Path) -> Seconds:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{done.stdout}error: {' '.join(command)} failed, as above")
    return Seconds(wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def row(name: str, command: list[str], instances: int, slots: int) -> str:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        make_project(root, instances)
        cold, nothing = measure(command, root), measure(command, root)
        missing = [n for n in range(instances) if not (root / "made" / str(n)).is_file()]
    if missing:
        sys.exit(f"error: {name} did not run {len(missing)} of {instances} instances")
    return (
        f"| {name} | {instances:,} | {slots} | {cold.wall:.1f} | {cold.processor:.1f} |"
        f" {1000 * cold.wall / instances:.0f} | {nothing.wall:.1f} |"
    )


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--dvc", type=int, nargs="*", default=[50, 100, 200])
    options = parser.parse_args()
    print(
        "| | instances | slots | cold, s | processor, s | cold for each, ms | no-op, s |\n"
        "|---|---:|---:|---:|---:|---:|---:|"
    )
    for instances in options.dvc:
        print(row("dvc repro", DVC, instances, 1), flush=True)
    for slots in options.slots:
        command = [*DRIVER, "--jobs", str(slots)]
        print(row("driver", command, options.instances, slots), flush=True)


if __name__ == "__main__":
    main()
