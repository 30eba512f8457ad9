"""Scores with portable kernels: the same bytes for any batches and threads, and of the command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gpt2_directories import real_items
from repository import REPOSITORY
from scored_models import trained_gpt2  # noqa: F401

from common.files import write_jsonl
from pipeline.seal.environment import environment_of_libraries

pytestmark = pytest.mark.slow(
    "each case is a process that imports torch and transformers", minutes=1
)

SCORE = """
import json, sys
from gpt2_directories import scored
from pathlib import Path
from tricky_items import LM_EVAL
from model.data.items import Item
from model.numerics.setting import set_numerics
from model.params.numerics import NumericsParams
from model.scoring import network

set_numerics(NumericsParams(kernels="portable", threads=None))
network.onednn_is_faster = lambda: True  # which portable kernels must not follow
def refuse(*_): raise AssertionError("oneDNN")
network.OneDNNProduct = refuse
directory, items = Path(sys.argv[1]), json.loads(sys.argv[2])
items = [Item(**item) for item in items]
print(json.dumps([
    [score.nats for score in scored(directory, items, LM_EVAL, *case)]
    for case in ((10**6, 1), (1, 1), (700, 2), (5000, 3))
] + [[score.nats for score in scored(directory, items[::-1], LM_EVAL)][::-1]]))
"""


def portably(*arguments: str, cwd: Path = REPOSITORY, path: str = "tests/helpers") -> str:
    environment = environment_of_libraries({"numerics.kernels": "portable"})
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**environment, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / path}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scores_are_the_same_to_the_bit_for_any_budget_threads_and_company(trained_gpt2):
    items = [item.model_dump() for item in real_items(20)]
    first, *others = json.loads(portably("-c", SCORE, str(trained_gpt2), json.dumps(items)))
    assert len(first) == 40
    for other in others:
        assert other == first


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("items") / "items.jsonl"
    write_jsonl(path, [item.model_dump() for item in real_items(15)])
    return path


def test_the_command_writes_the_bytes_of_the_evaluate_stage(trained_gpt2, items, tmp_path):
    evaluated = portably("-c", EVALUATE, str(trained_gpt2), str(items), cwd=tmp_path)
    assert "evaluate baseline/seed_1/step_7: hellaswag acc_norm" in evaluated
    # What a person's shell may have: the command does without it.
    command = [sys.executable, "-m", "tools.score", trained_gpt2, "--items", items]
    subprocess.run(
        [*map(str, command), "--threads", "3", "--output", str(tmp_path / "found")],
        cwd=REPOSITORY,
        env={**os.environ, "OPENBLAS_CORETYPE": "Sandybridge", "ATEN_CPU_CAPABILITY": "default"},
        check=True,
    )
    stage = tmp_path / "scores/baseline/seed_1/step_7"
    for ours, of_stage in (("reference", "hellaswag"), ("lm_eval", "hellaswag_lm_eval")):
        found = (tmp_path / f"found/{ours}.jsonl").read_bytes()
        assert found == (stage / f"{of_stage}.jsonl").read_bytes()
    figures = json.loads((tmp_path / "found/evaluation.json").read_text())
    expected = json.loads((tmp_path / "metrics/baseline/seed_1/step_7/evaluation.json").read_text())
    assert figures["reference"] == expected["hellaswag"]
    assert figures["lm_eval"] == expected["hellaswag_lm_eval"]


# The evaluate stage in the working directory, with HellaSwag in both wordings.
EVALUATE = """
import shutil, sys
from pathlib import Path
from common.files import write_checksums, write_json
from repository import REPOSITORY
from model.tasks.table import LISTED
from stages import evaluate

shutil.copyfile(REPOSITORY / "profiles/micro.yaml", "params.yaml")
shutil.copyfile(REPOSITORY / "pyproject.toml", "pyproject.toml")
shutil.copytree(sys.argv[1], "exports/baseline/seed_1/step_7")
write_checksums(Path("exports/baseline/seed_1/step_7"))
Path("data/items").mkdir(parents=True)
shutil.copyfile(sys.argv[2], "data/items/hellaswag.jsonl")
rows = [
    {"name": "hellaswag", "items": "hellaswag", "wording": "reference"},
    {"name": "hellaswag_lm_eval", "items": "hellaswag", "wording": "lm_eval"},
]
write_json(Path("data/items") / LISTED, {"tasks": rows})
write_checksums(Path("data/items"))
sys.argv = ["evaluate", "baseline", "1", "7"]
evaluate.main()
"""


@pytest.mark.parametrize("other", [("--dtype", "bfloat16"), ("--device", "cuda")])
def test_portable_kernels_are_refused_where_they_do_not_compute(trained_gpt2, items, other):
    command = [sys.executable, "-m", "tools.score", str(trained_gpt2), "--kernels", "portable"]
    done = subprocess.run(
        [*command, "--items", str(items), *other], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: --kernels: portable kernels compute in float32 on a CPU")
