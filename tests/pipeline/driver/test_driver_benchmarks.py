"""The tables of benchmarks/driver.py and benchmarks/overhead.py."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.overhead import Run, print_table

ROOT = Path(__file__).resolve().parents[3]


def test_overhead_is_all_but_the_work_and_the_checksums_in_it(capsys):
    measured = Run(total=7.5, own=1.0, wall={"a@1": 4.0, "a@2": 3.0, "b": 2.0})
    inside = {"a@1": (3.5, 3.0), "a@2": (2.5, 2.0), "b": (1.5, 1.0)}
    print_table(measured, inside, checksums=0.5)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "|---|---:|---:|---:|---:|---:|---:|",
        "| a | 2 | 7.0 | 5.0 | 1.0 | 1.0 | 28.6% |",
        "| b | 1 | 2.0 | 1.0 | 0.5 | 0.5 | 50.0% |",
        "| driver and DVC | | 1.0 | | | 1.0 | |",
        "| checksums in the work, at most | | | -0.5 | | 0.5 | |",
        "| all | 3 | 10.0 | 5.5 | 1.5 | 3.0 | 45.0% |",
        "",
        "wall time of the run: 7.5 s",
    ]


@pytest.mark.slow("it runs DVC four times", minutes=0.2)
def test_empty_instances_run_under_the_driver_and_under_dvc():
    options = ["--instances", "3", "--slots", "2", "--dvc", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.driver", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    _, _, *rows = done.stdout.splitlines()
    assert [row.split(" | ")[:3] for row in rows] == [
        ["| dvc repro", "2", "1"],
        ["| driver", "3", "2"],
    ]
