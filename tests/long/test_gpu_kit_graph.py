"""The rehearsal of the GPU kit's `graph` and `tests`: the micro graph twice on the CPU."""

import json
import subprocess
import sys

import pytest
from repository import REPOSITORY

pytestmark = pytest.mark.slow("runs the micro graph twice", minutes=3)


def test_the_rehearsal_of_the_graph_gives_the_same_bytes_twice(tmp_path):
    output = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--rehearse", "--output", str(output)]
    subprocess.run([*command, "tests", "graph"], cwd=REPOSITORY, check=True)
    found = json.loads(output.read_text())
    assert {part["status"] for part in found.values()} == {"passed"}
    assert found["graph"]["figures"]["second_run"] == "same bytes"
    assert found["graph"]["figures"]["max_abs_logit_difference"] < 1e-4
    assert found["tests"]["figures"]["skipped"] + found["tests"]["figures"]["passed"] > 5
