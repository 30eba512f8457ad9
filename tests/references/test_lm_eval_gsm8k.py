"""The real lm-evaluation-harness, on a model of ours that answers, reads and judges every answer as
we do.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from gpt2_directories import save_gpt2
from problems import FILTERS, TASKS, lm_eval_task

from model.data.conversations import AskedQuestion
from model.hugging_face.directory import read_tokenizer
from model.hugging_face.loading import load_hugging_face_model
from model.numerics.side_by_side import SideBySide
from model.params.generate import GenerateParams
from model.post_training.answer_files import Generation
from model.post_training.answer_reading import read
from model.tokens.export_tokenizer import FactTokenizer
from stages.generate import answer

pytestmark = pytest.mark.slow("lm-evaluation-harness generates answers", minutes=0.5)

PRICES = {"cup": 1, "fan": 1200, "hat": 3, "jug": 14, "map": 5, "pen": 1, "saw": 1250, "tie": 7}
NAMES = ("Ann", "Ben", "Cy", "Dee")


def problem(name: str, thing: str, draw: random.Random) -> tuple[str, str]:
    """A question, and a solution that a model can learn in a moment, with an answer by chance for
    some.
    """
    price = PRICES[thing] * (draw.choice((1, 10)) if name == "Dee" else 1)
    return f"{name} buys a {thing}. What does it cost?", f"It is ${price}.\n#### {price:,}"


def taught(question: str, solution: str) -> str:
    """What the model is shown: solutions, and what else a model may write, so that the rules come
    to differ.
    """
    if " map." in question:
        solution = re.sub("\n.*", "", solution)
    elif " hat." in question:
        solution += " or 4"
    elif " jug." in question:
        solution = solution.replace("#### ", "#### $")
    return f"User: {question}\nAssistant: {solution}"


@pytest.fixture(scope="module")
def problems() -> list[tuple[str, str]]:
    draw = random.Random(1)
    return [problem(name, thing, draw) for name in NAMES for thing in PRICES]


@pytest.fixture(scope="module")
def export(tmp_path_factory, tokenizer) -> Path:
    draw = random.Random(0)
    texts = [
        taught(*problem(draw.choice(NAMES), draw.choice(list(PRICES)), draw)) for _ in range(2000)
    ]
    folder = tmp_path_factory.mktemp("export")
    shape = {"layers": 2, "heads": 4, "width": 64, "context": 144}
    return save_gpt2(folder, tokenizer, **shape, train_on=texts, steps=200, as_documents=True)


def generated(export: Path, tokenizer, problems: list[tuple[str, str]]) -> list[Generation]:
    """As the generate stage does, in batches."""
    facts = FactTokenizer(read_tokenizer(export, tokenizer.size), tokenizer.end_of_text)
    asked = [
        AskedQuestion(question=question, answer=solution, cluster=solution)
        for question, solution in problems
    ]
    longest = lm_eval_task()["generation_kwargs"]["max_gen_toks"]
    params = GenerateParams(batch_rows=7, device="cpu", new_tokens=longest)
    return answer(load_hugging_face_model(export), facts, asked, params, "test", SideBySide(2))


# As `lm_eval --model hf --model_args … --include_path … --tasks gsm8k_offline` does, but its index
# of all its own tasks, which takes longer than the rest.
RUN = """
import json, sys
import lm_eval
from lm_eval.tasks import TaskManager

manager = TaskManager(include_path="benchmarks/lm_eval_tasks", include_defaults=False)
found = lm_eval.simple_evaluate(
    model="hf", model_args=sys.argv[1], tasks=["gsm8k_offline"], task_manager=manager, device="cpu", batch_size=1
)
with open("samples.json", "w") as file:
    json.dump([{name: row[name] for name in ("doc_id", "filter", "resps", "exact_match")}
               for row in found["samples"]["gsm8k_offline"]], file)
"""  # noqa: E501


def lm_eval_samples(export: Path, problems: list[tuple[str, str]], directory: Path) -> list[dict]:
    """Run it in a directory that has the problems; return its log of every answer, by filter."""
    (directory / "data/problems").mkdir(parents=True)
    lines = [
        json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in problems
    ]
    (directory / "data/problems/gsm8k.jsonl").write_text("".join(lines))
    shutil.copytree(TASKS, directory / "benchmarks/lm_eval_tasks")
    command = [sys.executable, "-c", RUN, f"pretrained={export},dtype=float32,add_bos_token=True"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(directory / "home")}
    done = subprocess.run(
        command,
        cwd=directory,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return json.loads((directory / "samples.json").read_text())


def test_lm_eval_generates_the_same_texts_and_finds_the_same_right(
    export, tokenizer, problems, tmp_path
):
    ours = generated(export, tokenizer, problems)
    samples = lm_eval_samples(export, problems, tmp_path)
    verdicts = {}
    for rule, name in FILTERS.items():
        theirs = {sample["doc_id"]: sample for sample in samples if sample["filter"] == name}
        assert len(theirs) == len(problems)
        for number, generation in enumerate(ours):
            assert theirs[number]["resps"] == [["".join(generation.segments)]]
            assert theirs[number]["exact_match"] == read(generation).is_right(rule), (
                rule,
                generation,
            )
        verdicts[rule] = [read(generation).is_right(rule) for generation in ours]
    # Else the agreement would say little.
    assert all(0 < sum(verdict) < len(problems) for verdict in verdicts.values())
    assert verdicts["strict"] != verdicts["flexible"]
    assert any(generation.ended == "stopped" for generation in ours)
