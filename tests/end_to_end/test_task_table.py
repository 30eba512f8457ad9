"""A file and two entries are a task: what stages do with it, and which stages an edit reruns."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import yaml
from committed import committed_text
from conditions import named
from contributing import blocks, commands
from gpt2_directories import save_gpt2
from repository import REPOSITORY

from common.files import checksummed_directory, write_checksums, write_json, write_jsonl
from model.data.documents import Document, DocumentWriter
from model.data.drills import GROUPS
from model.params.tasks import CONTINUATION, TaskParams, Wording
from model.post_training import answer_reading
from model.post_training.arithmetic_probes import Answer
from model.tasks import labels
from model.tasks.listing import listed
from model.tasks.problem_sets import PROBLEM_SETS
from model.tasks.wordings import WORDINGS
from pipeline.check import declaration_findings
from pipeline.declared.code_imports import Code
from pipeline.declared.file_trees import WorkingTree

CONDITIONS = ("baseline", "mul_tokens")
STEP = 4
demonstration = yaml.safe_load(committed_text("params.yaml"))


def test_every_label_is_of_something_that_there_is():
    assert set(labels.LABELS) == {*demonstration["fetch"]["tasks"], CONTINUATION}
    assert tuple(labels.RULES) == answer_reading.RULES
    assert set(labels.COMPARED_RULES) <= set(labels.RULES)
    assert tuple(labels.PRODUCT_GROUPS) == GROUPS
    assert [labels.problem_set_words(name) for name in PROBLEM_SETS] == [
        "generated problems",
        "GSM8K",
    ]
    every = TaskParams(asked="all", wordings=["lm_eval", "reference"])
    tasks = listed(dict.fromkeys([*labels.LABELS, "of_mine"], every))
    shown = [figure.label for figure in labels.task_figures(tasks)]
    assert len(set(shown)) == len(shown), "a comparison is known by its label"
    assert "of mine acc_norm, reference script" in shown


def test_a_second_wording_is_a_task_that_is_only_compared():
    both = TaskParams(asked="all", wordings=["reference", "lm_eval"])
    first, second = listed({"hellaswag": both})
    assert (first.name, first.wording) == ("hellaswag", "reference")
    assert (second.name, second.items) == ("hellaswag_lm_eval", "hellaswag")
    assert [figure.has_curve for figure in labels.task_figures([first, second])] == [
        True,
        True,
        False,
    ]
    assert {task.wording for task in (first, second)} == set(WORDINGS) == set(get_args(Wording))


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("model/params/tasks.py", {"params", "items", "compare", "curves"}),
        ("model/tasks/table.py", {"items", "evaluate", "compare", "curves"}),
        ("model/tasks/listing.py", {"items", "compare", "curves"}),
        ("model/tasks/labels.py", {"compare", "curves"}),
        ("model/tasks/wordings.py", {"evaluate", "compare"}),
        ("model/tasks/item_selection/sample.py", {"items"}),
        ("model/sources/task_formats.py", {"fetch"}),
        ("model/tasks/problem_sets.py", {"generate", "gsm8k", "compare", "curves"}),
    ],
)
def test_an_edit_reruns_no_stage_that_needs_nothing_of_it(module, stages):
    code = Code(WorkingTree(REPOSITORY))
    every = {path.stem for path in (REPOSITORY / "stages").glob("*.py")} - {"__init__", "report"}
    assert {stage for stage in every if module in code.closure(stage)} == stages


def test_acc_norm_is_computed_in_one_module():
    using = {
        path.name
        for path in (REPOSITORY / "model").rglob("*.py")
        if "acc_norm_by" in path.read_text()
    }
    assert using == {"wordings.py", "item_scores.py"}, "which defines it, and which divides by it"


# What a stage does, in a process of its own: the copy's code, not this repository's.
SCRIPT = """
import json, sys
from pathlib import Path
from common.sections import read_section
from model.curves.charts import curves_of
from model.params.tasks import Tasks
from model.report.figures import curve_figures
from model.tasks.listing import listed
from stages import compare, curves, evaluate, fetch, items

sys.argv = ["fetch", "tasks"]
fetch.main()
items.main()
for condition in ("baseline", "mul_tokens"):
    sys.argv = ["evaluate", condition, "1", "4"]
    evaluate.main()
compare.main()
curves.main()
charts = curves_of(listed(read_section("tasks", Tasks)))
figures = {figure.title: figure for figure in curve_figures(Path("plots"), charts)}
print(json.dumps({title: [figure.stage, figure.rows] for title, figure in figures.items()}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory, tokenizer) -> tuple[Path, dict]:
    """A copy of the code with CONTRIBUTING.md's task and what its stages read; the report's charts.

    `fetch`, and the stages from `items` to `curves`, have run in it on two small runs.
    """
    root = tmp_path_factory.mktemp("task")
    for name in (".dvcignore", "dvc.yaml", "libraries.yaml", "requirements.txt"):
        shutil.copy(REPOSITORY / name, root / name)
    for name in ("common", "model", "stages"):
        shutil.copytree(
            REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    write_inputs(root, tokenizer)
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout.splitlines()[-1])


def write_inputs(root: Path, tokenizer) -> None:
    evaluation = {"batch_tokens": 512, "device": "cpu", "dtype": "float32", "processes": 1}
    said = [
        subprocess.run(["bash", "-ec", command], cwd=root, capture_output=True, text=True).stdout
        for command in commands("A task")
    ]
    source, asked = blocks("A task", "yaml")
    lines = [json.dumps(hellaswag_item(number)) + "\n" for number in range(4)]
    (root / "four.jsonl").write_text("".join(lines))
    reference = {"asked": "all", "wordings": ["reference"]}
    params = {
        "conditions": named(*CONDITIONS),
        "tokenize": {},
        "model": {},
        "sft": {},
        "seeds": [1],
        "fetch": {
            "tasks": {
                "hellaswag": {
                    "count": 4,
                    "format": "hellaswag",
                    "source": pinned(Path("four.jsonl"), root),
                },
                **yaml.safe_load(source.replace("SHA256", said[-1].split()[0])),
            }
        },
        "tasks": {
            "hellaswag": reference,
            "continuation": {**reference, "asked": 6},
            **yaml.safe_load(asked),
        },
        "items": {"context_words": 4, "ending_words": 9, "seed": 0},
        "pretrain": {"checkpoint_steps": [STEP], "max_steps": STEP},
        "export": {"parity_tolerance": 1e-4},
        "evaluate": evaluation,
        "numerics": {"kernels": "native", "threads": 1},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    with (
        checksummed_directory(root / "data/corpus") as output,
        DocumentWriter(output, "val", 10**6) as writer,
    ):
        for number in range(8):
            words = " ".join(f"w{number}_{place}" for place in range(13))
            writer.append(Document(words, "text"))
    for number, condition in enumerate(CONDITIONS):
        write_run(root, condition, number)
        export = root / f"exports/{condition}/seed_1/step_{STEP}"
        save_gpt2(export, tokenizer, layers=1 + number, heads=2, width=16, context=64)
        write_checksums(export)


def pinned(path: Path, root: Path) -> dict:
    digest = hashlib.sha256((root / path).read_bytes()).hexdigest()
    return {"kind": "files", "files": [{"path": str(path), "sha256": digest}]}


def hellaswag_item(number: int) -> dict:
    context = f"The baker takes {number} eggs."
    return {
        "ind": number,
        "label": number % 4,
        "source_id": f"video {number}",
        "activity_label": "Baking",
        "ctx_a": context,
        "ctx_b": "",
        "ctx": context,
        "endings": ["She bakes.", "He sings.", "It rains.", "They leave."],
    }


def write_run(root: Path, condition: str, number: int) -> None:
    """Write what `compare` and `curves` read of one run beside its scores and evaluation."""
    reading = {"question": "q", "cluster": "c", "gold": "1", **dict.fromkeys(labels.RULES, "1")}
    rows = [{**reading, "question": f"q {n}", "cluster": f"c {n}"} for n in range(2)]
    scores = root / "scores" / condition / "seed_1"
    with checksummed_directory(scores / "gsm8k") as output:
        for name in PROBLEM_SETS:
            write_jsonl(output / f"{name}.jsonl", rows)
    answers = [
        Answer(a, 3, "form", group, False, f"{a} × 3 =", 3 * a, None, "")._asdict()
        for group in GROUPS
        for a in (2, 4)
    ]
    for models in ("exports", "sft"):
        with checksummed_directory(scores / "probes" / models) as output:
            write_jsonl(output / "answers.jsonl", answers)
    with checksummed_directory(root / "losses" / condition / "seed_1") as output:
        (output / "training.csv").write_text(
            "step,tokens,original_bytes,learning_rate,gradient_norm,train_loss,train_bits_per_byte\n"
            "4,40,120,0.1,1.0,5.0,2.0\n"
        )
        (output / "validation.csv").write_text(
            "step,tokens,original_bytes,val_loss,val_bits_per_byte\n4,40,120,5.0,2.0\n"
        )
        (output / "documents.csv").write_text(
            "document,source,original_bytes,nats\n0,text,60,100.0\n3,text,60,110.0\n"
        )
    with checksummed_directory(root / "sft_losses" / condition / "seed_1") as output:
        (output / "training.csv").write_text("step,train_loss\n10,2.5\n")
    write_metrics(root / "metrics" / condition, condition, number)


def write_metrics(folder: Path, condition: str, number: int) -> None:
    split = {
        "documents": 5,
        "documents_sha256": "ab",
        "original_bytes": 4000,
        "mul_fact_rate": 0.0,
        "mul_fact_tokens": 0,
        "tokens": 1000,
        "tokens_per_byte": 0.25,
    }
    expressions = {"dot": {"changed": 9, "found": 10}, "times": {"changed": 0, "found": 30}}
    run = folder / "seed_1"
    (run / f"step_{STEP}").mkdir(parents=True)
    (run / "probes").mkdir()
    write_json(folder / "tokenize.json", {"expressions": expressions, "train": split, "val": split})
    parity = {"max_abs_logit_difference": 1e-6, "weights_sha256": condition}
    write_json(run / f"step_{STEP}/parity.json", parity)
    write_json(run / "pretrain.json", {"loss_spikes": 0})
    write_json(run / "sft.json", {"facts": number, "learned_tokens": 50})
    rate = {"correct": 1, "rate": 0.5, "interval_95": [0.1, 0.9], "total": 2}
    groups = {group: {"text": rate, "fact_token": rate} for group in GROUPS}
    for models in ("exports", "sft"):
        write_json(run / f"probes/{models}.json", {"plain": groups, "injected": groups})
    answers = dict.fromkeys(labels.RULES, rate) | {"stopped": 2, "cut": 0, "too_long": 0}
    write_json(run / "gsm8k.json", {key: {**answers, "facts": 0} for key in PROBLEM_SETS})


def test_a_new_entry_needs_no_line_in_dvc_yaml(copy):
    root, _ = copy
    assert declaration_findings(WorkingTree(root)) == []


def test_a_new_entry_has_items_and_scores(copy):
    root, _ = copy
    items = [json.loads(line) for line in (root / "data/items/counting.jsonl").open()]
    assert [len(item["endings"]) for item in items] == [3] * 8
    assert items[1]["ctx"] == "two, three,"
    run = f"baseline/seed_1/step_{STEP}"
    scores = [json.loads(line) for line in (root / f"scores/{run}/counting.jsonl").open()]
    assert [len(score["nats"]) for score in scores] == [3] * 8
    metrics = json.loads((root / f"metrics/{run}/evaluation.json").read_text())
    assert metrics["counting"]["acc_norm"]["total"] == 8
    assert metrics["counting"]["chance"] == pytest.approx(1 / 3)
    assert list(metrics) == sorted(["hellaswag", "continuation", "counting"])


def test_a_new_entry_is_compared(copy):
    root, _ = copy
    compared = json.loads((root / "plots/comparisons.json").read_text())["comparisons"]
    for figure in ("counting acc_norm", "counting, true endings"):
        rows = [row for row in compared if row["figure"] == figure]
        assert [(row["model"], row["items"]) for row in rows] == [(f"step {STEP}", 8)]


def test_a_new_entry_has_a_curve_and_rows_in_the_tables(copy):
    root, _ = copy
    header, *rows = (root / "plots/curves/counting_acc_norm.csv").read_text().splitlines()
    assert len(rows) == len(CONDITIONS)
    chance = header.split(",").index("chance")
    for row in rows:
        assert float(row.split(",")[chance]) == pytest.approx(1 / 3)
    tables = json.loads((root / "plots/results.json").read_text())["tables"]
    titles = {table["title"]: [row[:2] for row in table["rows"]] for table in tables}
    assert {"Counting acc_norm", "Counting, true endings"} <= set(titles)
    assert ["pretrained", "counting acc_norm"] in titles["From pretraining to GSM8K"]


def test_a_new_entry_is_a_chart_of_the_report(copy):
    _, figures = copy
    stage, rows = figures["Counting acc_norm"]
    assert stage == "evaluate"
    assert [row[0] for row in rows] == list(CONDITIONS)
