"""The part `graph`: the micro graph with every stage on the GPU, twice, to the same bytes."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.micro_tree import micro_tree, run


def measure(rehearse: bool, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return seconds, parity and losses of the first run, and whether the second had its bytes."""
    found, locks = {}, []
    for number in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            tree.mkdir()
            micro_tree(tree, "cpu" if rehearse else "cuda")
            began = time.perf_counter()
            run(tree, sys.executable, "-m", "pipeline.driver")
            seconds = time.perf_counter() - began
            locks.append((tree / "dvc.lock").read_bytes())
            if number == 1:
                found = {"seconds": round(seconds, 1), **_figures(tree)}
    if locks[0] != locks[1]:
        sys.exit("error: graph: two runs wrote different bytes; compare their dvc.lock")
    return {**found, "second_run": "same bytes"}


def _figures(tree: Path) -> dict[str, Any]:
    differences, losses = [], {}
    for path in sorted((tree / "metrics").glob("*/seed_*/step_*/parity.json")):
        differences.append(json.loads(path.read_text())["max_abs_logit_difference"])
    for path in sorted((tree / "metrics").glob("*/seed_*/pretrain.json")):
        losses[path.parts[-3]] = json.loads(path.read_text())["val_loss"]
    return {"max_abs_logit_difference": max(differences), "validation_loss": losses}
