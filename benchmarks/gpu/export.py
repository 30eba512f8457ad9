"""The part `export`: a 124M network trained on the GPU, compiled and in bfloat16, and its export.

The gate compares the export, loaded by transformers on the CPU, with the checkpoint.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu.micro_tree import micro_tree, run
from common.yaml_file import read_yaml

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = REPOSITORY / "profiles/gpt2-124m-10b.yaml"
STEPS = 20


def measure(rehearse: bool, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return the seconds of the run and what the gate measured."""
    size = {} if rehearse else {**read_yaml(PROFILE)["model"], "context": 256}
    pretrain = {
        "max_steps": STEPS,
        "checkpoint_steps": [STEPS],
        "validate_every": STEPS,
        "state_every": STEPS,
        "log_every": STEPS,
    }
    if not rehearse:
        pretrain |= {"dtype": "bfloat16", "compile": True, "learning_rate": 6.0e-4}
        pretrain["min_learning_rate"] = 6.0e-5
    tokenize = {} if rehearse else {"base_ranks": 50256}
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        tree.mkdir()
        device = "cpu" if rehearse else "cuda"
        micro_tree(tree, device, 1, model=size, pretrain=pretrain, tokenize=tokenize)
        began = time.perf_counter()
        run(tree, sys.executable, "-m", "pipeline.driver", "export")
        seconds = time.perf_counter() - began
        parity = [
            json.loads(path.read_text())
            for path in sorted((tree / "metrics").glob("*/seed_*/step_*/parity.json"))
        ]
    return {
        "seconds": round(seconds, 1),
        "exports": len(parity),
        "tokens": min(each["tokens"] for each in parity),
        "max_abs_logit_difference": max(each["max_abs_logit_difference"] for each in parity),
    }
