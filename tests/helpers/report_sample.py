"""A small repository for the report stage: two conditions, some seeds, two checkpoints."""

import csv
import json
import re
import shutil
from pathlib import Path

from committed import committed_text
from demo_charts import CURVES
from repository import REPOSITORY

from common.files import checksummed_directory
from common.yaml_file import read_yaml
from model.curves.charts import PAIRED
from model.curves.paired import Difference
from model.post_training.sample_files import Sample, write_samples

CONDITIONS = ("baseline", "mul_tokens")
STEPS = (100, 1000)
_TRAINED = ("loss", "bits_per_byte")
_OF_TRAINING = ("gradient_norm", "learning_rate", "sft_loss")
FILES = (
    "dvc.yaml",
    "stages.yaml",
    "libraries.yaml",
    "common",
    "model",
    "stages",
    "pipeline",
    "tools",
    "pyproject.toml",
    ".dvcignore",
)


def write_sample(
    root: Path,
    seeds: tuple[int, ...] = (1, 2),
    conditions: tuple[str, ...] = CONDITIONS,
    steps: tuple[int, ...] = STEPS,
) -> None:
    for name in FILES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name, follow_symlinks=False)
    params = committed_text("params.yaml")
    for key, value in (
        ("seeds", list(seeds)),
        ("checkpoint_steps", list(steps)),
        ("max_steps", steps[-1]),
    ):
        params, count = re.subn(rf"(?m)^(\s*{key}):.*", rf"\1: {value}", params, count=1)
        assert count == 1, key
    for other in conditions[2:]:
        settings = f"  {other}: {{tokenize: {{}}, model: {{}}, pretrain: {{}}, sft: {{}}}}\n"
        params = params.replace("\nseeds:", f"{settings}\nseeds:", 1)
    (root / "params.yaml").write_text(params)
    (root / "plots/curves").mkdir(parents=True)
    for chart in CURVES:
        header = [
            "condition",
            "seed",
            "split",
            "step",
            "tokens",
            "original_bytes",
            "value",
            "low",
            "high",
            "chance",
            "gpt2",
        ]
        header.append("tolerance")
        write_rows(root / f"plots/{chart.file}", header, curve(chart, seeds, conditions, steps))
    write_differences(root, conditions, steps)
    write_paired(root, conditions, steps)
    use = [
        [c, s, where, 40 * (c != "baseline"), 9000, 40 / 9000 * (c != "baseline")]
        for c in conditions
        for s in seeds
        for where in ("training text, of tokens", "answers, of tokens")
    ]
    write_rows(
        root / "plots/fact_usage.csv",
        ["condition", "seed", "where", "facts", "total", "share"],
        use,
    )
    cells = [
        [str(step), f"{step * 512:,}", "0.3038 [0.273, 0.337]", "0.3013 [0.270, 0.334]"]
        for step in STEPS
    ]
    table = {
        "name": "acc",
        "title": "Accuracy <of> all",
        "unit": "accuracy",
        "rows": cells,
        "labels": 0,
    }
    write_json(
        root / "plots/results.json",
        {"tables": [{**table, "columns": ["Step", "Tokens", "Baseline", "Mul_tokens"]}]},
    )
    write_metrics(root / "metrics", seeds, conditions, steps)
    for seed in seeds:
        write_continuations(root, seed, conditions, steps)


def curve(chart, seeds, conditions=CONDITIONS, steps=STEPS) -> list[list]:
    rows = []
    for number, condition in enumerate(conditions):
        for seed in seeds:
            for split in (
                ("train", "val")
                if chart.name in _TRAINED
                else ("train",)
                if chart.name in _OF_TRAINING
                else ("",)
            ):
                for step in range(100, 1001, 20) if split == "train" else steps:
                    value = (4 - step / 500 + 0.1 * number + 0.01 * seed) * (
                        1e-6 if chart.log_y else 0.1
                    )
                    bounds = [value - 0.02, value + 0.02] if chart.is_accuracy else [None, None]
                    tokens = (
                        [None, None]
                        if chart.name == "sft_loss"
                        else [step * 512, step * 1700 + seed]
                    )
                    row = [condition, seed, split, step, *tokens, value, *bounds]
                    lines = (
                        0.25 if chart.is_accuracy else None,
                        chart.reference,
                        1e-4 if chart.name == "parity" else None,
                    )
                    rows.append([*row, *lines])
    return rows


def write_differences(root: Path, conditions=CONDITIONS, steps=STEPS) -> None:
    names = [
        *("model", "figure", "unit", "condition", "difference", "low", "high"),
        *("holm_p", "items", "seeds", "detectable", "differs"),
    ]
    rows = []
    for number, condition in enumerate(conditions[1:]):
        for step in steps:
            at, apart = step / 50_000, 0.01 * number
            rows += [
                [
                    *(f"step {step}", "HellaSwag acc_norm", "accuracy", condition),
                    *(at + apart, at + apart - 0.03, at + apart + 0.03),
                    *(0.01, 1000, 2, 0.05, "yes" if at + apart > 0.03 else "no"),
                ],
                [
                    *(f"step {step}", "HellaSwag, true endings", "bits per byte", condition),
                    *(apart - 0.01, apart - 0.02, apart + 0.002, 0.3, 1000, 2, 0.02, "no"),
                ],
            ]
    write_rows(root / "plots/differences.csv", names, rows)
    sentences = [f"Sentence {number}: differences < 0.05 & more." for number in range(7)]
    compared = {
        "first": "baseline",
        "sentences": sentences[:4],
        "limits": sentences[4:],
        "comparisons": [],
    }
    rows = [["step 100", "HellaSwag acc_norm", "1,000", "+0.0100"]]
    columns = ["Model", "Figure", "n", "Difference"]
    compared["table"] = {
        "title": "Differences",
        "unit": "same items",
        "columns": columns,
        "rows": rows,
        "labels": 2,
    }
    write_json(root / "plots/comparisons.json", compared)


def write_paired(root: Path, conditions=CONDITIONS, steps=STEPS) -> None:
    rows = [
        [
            *(chart.name, chart.title, chart.y_label, condition, step, 512 * step, 1700 * step),
            *(0.01 * number + 0.01, 0.01 * number - 0.02, 0.01 * number + 0.04),
            "yes" if number else "no",
        ]
        for chart in CURVES
        if chart.compared
        for number, condition in enumerate(conditions[1:])
        for step in steps
    ]
    write_rows(root / f"plots/{PAIRED.file}", list(Difference._fields), rows)


def write_metrics(metrics: Path, seeds, conditions=CONDITIONS, steps=STEPS) -> None:
    for condition in conditions:
        text = {"documents": 1000, "original_bytes": 1_700_000, "tokens": 512_000}
        splits = {split: {**text, "documents_sha256": "d" * 64} for split in ("train", "val")}
        write_json(metrics / condition / "tokenize.json", splits)
        for seed in seeds:
            for step in steps:
                folder = metrics / condition / f"seed_{seed}" / f"step_{step}"
                weights = f"{conditions.index(condition)}{seed}{step:06}".ljust(64, "a")
                parity = {
                    "max_abs_logit_difference": 5e-6,
                    "tokens": 3072,
                    "weights_sha256": weights,
                }
                write_json(folder / "parity.json", parity)
                write_json(folder / "evaluation.json", {"hellaswag": {"acc_norm": {"total": 1000}}})


def write_continuations(root: Path, seed: int, conditions=CONDITIONS, steps=STEPS) -> None:
    """Write one seed's samples for the prompts of the repository's own params.yaml."""
    params = read_yaml(root / "params.yaml")
    for condition in conditions:
        for step in steps:
            answer = [f" {condition} <of> {step}\n", [6, 9], None, " ends\x1b"]
            ended = "stopped" if step == steps[-1] else "cut"
            samples = [
                Sample(prompt=prompt, answer=answer, prompt_tokens=5, new_tokens=9, ended=ended)
                for prompt in params["samples"]["prompts"]
            ]
            folder = root / f"samples/{condition}/seed_{seed}/step_{step}"
            with checksummed_directory(folder) as output:
                write_samples(output, samples)


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_rows(path: Path, header: list[str], rows: list[list]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *rows])
