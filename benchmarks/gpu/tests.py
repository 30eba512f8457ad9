"""The part `tests`: pytest's tests marked `gpu`. In a rehearsal without a GPU they all skip."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("tests/model",)


def measure(rehearse: bool, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return how many tests passed and were skipped; raises SystemExit if one failed."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", *FOLDERS, f"--junitxml={report}"]
        done = subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "MPLBACKEND": "Agg"})
        if done.returncode:
            sys.exit(f"error: pytest -m gpu exited with {done.returncode}")
        suite = next(ElementTree.parse(report).iter("testsuite"))
    tests, skipped = int(suite.attrib["tests"]), int(suite.attrib["skipped"])
    if not tests or (skipped and not rehearse):
        sys.exit(f"error: of {tests} tests marked gpu, {skipped} did not run")
    return {"passed": tests - skipped, "skipped": skipped}
