"""Every way to train has the same bytes in one process, in two and in four."""

import json
import subprocess
import sys

import pytest
from portable_kernels import environment
from repository import REPOSITORY

PROGRAM = """
import hashlib, json, sys
from datetime import timedelta
from pathlib import Path
import torch
from small_objects import write_token_split
from portable_work import Nowhere
from tiny_training import NETWORK, params
from model.network.gpt import GPT
from model.numerics import portable
from model.numerics.setting import Numerics
from model.numerics.side_by_side import SideBySide
from model.pretraining.loop import Training
from model.pretraining.training_rows import TrainingRows
from model.pretraining.validation import Validation
from model.runtime.distributed import joined_processes

WAYS = {
    "adamw": {},
    "muon": {"optimizer": "muon", "schedule": "wsd", "decay_steps": 2},
    "mixture": {"mixture": {"text": 1.0, "drills": 3.0}, "document_starts": "row"},
}
portable.install()
with joined_processes("cpu", timedelta(minutes=1)) as processes:
    folder = Path(sys.argv[1]) / str(processes.rank)
    documents = [[99, *(token % 50 for token in range(n, n + 12))] for n in range(40)]
    train, val = write_token_split(folder, documents, ["text"] * 20 + ["drills"] * 20)
    found = {}
    for name, changes in WAYS.items():
        chosen = params(batch_rows=8, micro_batch_rows=1, processes=processes.count, **changes)
        model = GPT(NETWORK).initialize(torch.Generator().manual_seed(0))
        rows = TrainingRows(
            train, NETWORK.context, 0, chosen.mixture, chosen.document_starts == "row"
        )
        validation = Validation(val, 20, NETWORK.context, "drills")
        # As many processes as one has threads otherwise.
        numerics = Numerics(True, 1, SideBySide(4 // processes.count))
        Training(model, rows, validation, chosen, numerics, processes, name).run(Nowhere())
        text = b"".join(value.numpy().tobytes() for value in model.state_dict().values())
        found[name] = hashlib.sha256(text).hexdigest()
    if processes.rank == 0:
        print("found " + json.dumps(found))
"""


@pytest.mark.slow("processes that import torch, and wait for each other", minutes=1)
def test_two_and_four_processes_have_the_bytes_of_one(tmp_path):
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    found = []
    for count in (1, 2, 4):
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
        done = subprocess.run(
            [
                sys.executable,
                *(launch if count > 1 else []),
                program,
                tmp_path / f"tokens_{count}",
            ],
            cwd=REPOSITORY,
            env=environment(PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'tests/helpers'}"),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        [line] = [line for line in done.stdout.splitlines() if line.startswith("found ")]
        found.append(json.loads(line.removeprefix("found ")))
    assert len(set(found[0].values())) == 3, "each way ends with other weights"
    assert found[0] == found[1] == found[2]
