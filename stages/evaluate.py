"""Score one export on every task that params.yaml lists.

Reads exports/CONDITION/seed_S/step_N and data/items, whose tasks.json lists the tasks. Writes
metrics/CONDITION/seed_S/step_N/evaluation.json, and scores/CONDITION/seed_S/step_N: a file for each
task, with a line of log-likelihoods for each item. Costs about eighteen seconds in the demo, three
of them to start.
"""

import sys
from pathlib import Path
from typing import Any

from common.errors import run_stage
from common.files import (
    checksummed_directory,
    verified,
    verified_directory,
    write_json,
    write_jsonl,
)
from common.sections import read_json, read_section
from model.data.items import read_stored_items
from model.hugging_face.directory import read_hugging_face_directory
from model.numerics.setting import Numerics, set_numerics
from model.params.evaluate import EvaluateParams
from model.params.numerics import NumericsParams
from model.runtime.distributed import Processes, joined_processes
from model.runtime.torch_setup import (
    keep_freed_memory,
    require_device,
    require_dtype,
)
from model.scoring.scorer import Scorer
from model.tasks.item_scores import read_scores, summarize
from model.tasks.table import LISTED, Task
from model.tasks.wordings import WORDINGS

ITEMS = Path("data/items")


def main() -> None:
    run = Path(sys.argv[1]) / f"seed_{sys.argv[2]}" / f"step_{sys.argv[3]}"
    params = read_section("evaluate", EvaluateParams)
    require_device("evaluate.device", params.device)
    require_dtype("params.yaml: evaluate.dtype", params.dtype, params.device)
    numerics = set_numerics(read_section("numerics", NumericsParams))
    keep_freed_memory()
    tasks = [Task(**row) for row in read_json(verified(ITEMS / LISTED), dict)["tasks"]]
    # The processes share the items; all get all scores, and the first writes.
    with joined_processes() as processes:
        scores = _score(run, tasks, params, numerics, processes)
        if processes.rank == 0:
            _write(run, tasks, scores)


def _score(
    run: Path, tasks: list[Task], params: EvaluateParams, numerics: Numerics, processes: Processes
) -> dict[str, list[dict[str, Any]]]:
    gpt2 = read_hugging_face_directory(verified_directory(Path("exports") / run))
    scorer = Scorer(gpt2, params.device, params.dtype, numerics, params.batch_tokens, processes)
    scores = {}
    for task in tasks:
        items = read_stored_items(ITEMS / f"{task.items}.jsonl")
        found = scorer.score(items, WORDINGS[task.wording], f"{task.name} {run}")
        scores[task.name] = [score._asdict() for score in found]
    return scores


def _write(run: Path, tasks: list[Task], scores: dict[str, list[dict[str, Any]]]) -> None:
    directory = Path("scores") / run
    with checksummed_directory(directory) as output:
        for name, rows in scores.items():
            write_jsonl(output / f"{name}.jsonl", rows)
    # Computed from the files just written, so anyone who reads them finds the same figures.
    metrics = {
        task.name: summarize(read_scores(directory / f"{task.name}.jsonl"), WORDINGS[task.wording])
        for task in tasks
    }
    write_json(Path("metrics") / run / "evaluation.json", metrics)
    figures = ", ".join(
        f"{name} acc_norm {found['acc_norm']['rate']:.4f}" for name, found in metrics.items()
    )
    print(f"evaluate {run}: {figures}")


if __name__ == "__main__":
    run_stage(main)
