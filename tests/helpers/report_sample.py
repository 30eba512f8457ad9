"""A repository in small with all that the report stage reads: two conditions, some seeds, two
checkpoints.
"""

import csv
import json
import shutil
from pathlib import Path

from committed import committed_text
from repository import REPOSITORY

from model.curves.charts import CURVES
from model.tasks.labels import CHANCE

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


def write_sample(root: Path, seeds: tuple[int, ...] = (1, 2)) -> None:
    for name in FILES:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root / name, follow_symlinks=False)
    params = committed_text("params.yaml")
    params = params.replace("seeds: [1337]", f"seeds: {list(seeds)}").replace(
        "[500, 1500, 3200]", str(list(STEPS))
    )
    (root / "params.yaml").write_text(params.replace("max_steps: 3200", f"max_steps: {STEPS[-1]}"))
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
        write_rows(root / f"plots/{chart.file}", header, curve(chart, seeds))
    write_differences(root)
    use = [
        [c, s, where, 40 * (c != "baseline"), 9000, 40 / 9000 * (c != "baseline")]
        for c in CONDITIONS
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
    write_metrics(root / "metrics", seeds)


def curve(chart, seeds) -> list[list]:
    rows = []
    for number, condition in enumerate(CONDITIONS):
        for seed in seeds:
            for split in (
                ("train", "val")
                if chart.name in _TRAINED
                else ("train",)
                if chart.name in _OF_TRAINING
                else ("",)
            ):
                for step in range(100, 1001, 20) if split == "train" else STEPS:
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
                        CHANCE if chart.is_accuracy else None,
                        chart.reference,
                        1e-4 if chart.name == "parity" else None,
                    )
                    rows.append([*row, *lines])
    return rows


def write_differences(root: Path) -> None:
    names = [
        *("model", "figure", "unit", "condition", "difference", "low", "high"),
        *("holm_p", "items", "seeds", "detectable", "differs"),
    ]
    rows = [
        [
            "step 100",
            "HellaSwag acc_norm",
            "accuracy",
            "mul_tokens",
            0.01,
            -0.02,
            0.04,
            0.7,
            1000,
            2,
            0.05,
            "no",
        ],
        [
            "step 1000",
            "HellaSwag acc_norm",
            "accuracy",
            "mul_tokens",
            0.06,
            0.03,
            0.09,
            0.01,
            1000,
            2,
            0.05,
            "yes",
        ],
        [
            "step 1000",
            "HellaSwag, true endings",
            "bits per byte",
            "mul_tokens",
            -0.01,
            -0.02,
            0.002,
            0.3,
            1000,
            2,
            0.02,
            "no",
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


def write_metrics(metrics: Path, seeds: tuple[int, ...]) -> None:
    for condition in CONDITIONS:
        write_json(metrics / condition / "tokenize.json", {"train": {"documents_sha256": "d" * 64}})
        for seed in seeds:
            for step in STEPS:
                folder = metrics / condition / f"seed_{seed}" / f"step_{step}"
                weights = f"{CONDITIONS.index(condition)}{seed}{step:06}".ljust(64, "a")
                parity = {
                    "max_abs_logit_difference": 5e-6,
                    "tokens": 3072,
                    "weights_sha256": weights,
                }
                write_json(folder / "parity.json", parity)
                write_json(folder / "evaluation.json", {"hellaswag": {"acc_norm": {"total": 1000}}})


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_rows(path: Path, header: list[str], rows: list[list]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *rows])
