"""CONTRIBUTING.md, followed to the letter on the micro profile: each section's example, then one
run of all of them together.
"""

import json
import re
import sys
from pathlib import Path

import pytest
from contributing import blocks, commands
from micro_graph import AUTHOR, edit, micro_clone, shell

from common.sections import read_json
from model.tokens.bpe import Tokenizer
from pipeline.check import check, declaration_findings
from pipeline.declared.file_trees import WorkingTree

pytestmark = pytest.mark.slow("two conditions more and a task, of a whole micro graph", minutes=3)


def follow(clone: Path, title: str) -> str:
    return "".join(shell(["bash", "-ec", command], clone) for command in commands(title))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The micro graph after all four sections, regenerated."""
    directory = tmp_path_factory.mktemp("contributing") / "clone"
    micro_clone(directory)
    follow(directory, "A condition")
    (directory / "word_order.diff").write_text(blocks("A task", "diff")[0])
    follow(directory, "A task")
    lines, _, sha256, _ = follow(directory, "A source of text").split()
    params = (directory / "params.yaml").read_text()
    before = re.search(r"  passages:\n(    .*\n)+", params)[0]
    [block] = blocks("A source of text", "yaml")
    edit(directory / "params.yaml", before, block.replace("LINES", lines).replace("SHA256", sha256))
    follow(directory, "A checkpoint step")
    assert declaration_findings(WorkingTree(directory)) == []
    shell(["make", "repro"], directory)
    return directory


def test_the_examples_make_a_graph_that_is_declared_and_recorded(clone):
    shell(["git", "add", "-A"], clone)
    shell(["git", *AUTHOR, "commit", "-qm", "contributed"], clone)
    assert check(WorkingTree(clone)) == []
    assert (clone / "model/conditions/digits.py").read_text() == blocks("A condition", "python")[0]


def test_the_new_condition_goes_all_the_way(clone):
    tokenizer = Tokenizer.load(clone / "data/tokens/digits")
    assert len(tokenizer.encode_text("1234567")) == 7
    for folder in ("exports", "sft"):
        exported = json.loads(
            (clone / folder / "digits/seed_1/step_200/tokenizer.json").read_text()
        )
        assert tokenizer.pattern in json.dumps(
            exported["pre_tokenizer"], ensure_ascii=False
        ).replace("\\\\", "\\")
    compared = {
        row["condition"]
        for row in json.loads((clone / "plots/comparisons.json").read_text())["comparisons"]
    }
    assert compared == {"mul_tokens", "digits"}
    assert "Digits" in (clone / "plots/results.md").read_text()


def test_the_new_task_is_asked_and_compared(clone):
    for line in (clone / "data/items/word_order.jsonl").read_text().splitlines():
        item = json.loads(line)
        assert len({tuple(sorted(ending.split())) for ending in item["endings"]}) == 1
    metrics = read_json(clone / "metrics/digits/seed_1/step_100/evaluation.json", dict)
    assert metrics["word_order"]["acc_norm"]["total"] == 16
    assert "word order acc_norm" in (clone / "plots/comparisons.md").read_text()
    assert "**Word order acc_norm** (accuracy)" in (clone / "plots/results.md").read_text()
    points = (clone / "plots/curves/word_order_acc_norm.csv").read_text().splitlines()[1:]
    assert len(points) == 3 * 2, "of each condition at each step"
    assert 'id="word_order_acc_norm"' in (clone / "plots/report.html").read_text()
    assert "curves/word_order_acc_norm.csv:" in (clone / "plots/dvc.yaml").read_text()


def test_the_new_source_is_all_that_is_read(clone):
    texts = {json.loads(line)["text"] for line in (clone / "texts.jsonl").read_text().splitlines()}
    assert len(texts) > 300
    script = (
        "from model.data.documents import read_split; from pathlib import Path; import json\n"
        "print(json.dumps([d.text for d in read_split(Path('data/raw/passages'), 'passages')]))"
    )
    assert set(json.loads(shell([sys.executable, "-c", script], clone))) == texts


def test_the_new_step_has_checkpoint_export_and_evaluation(clone):
    for condition in ("baseline", "mul_tokens", "digits"):
        for folder in ("checkpoints", "exports", "scores", "metrics"):
            assert {
                path.name for path in (clone / folder / condition / "seed_1").glob("step_*")
            } == {"step_100", "step_200"}


def test_a_condition_without_a_module_is_refused_before_anything_runs(clone):
    params = (clone / "params.yaml").read_text()
    edit(clone / "params.yaml", "digits]", "roman]")
    said = shell(["dvc", "repro"], clone, check=False)
    (clone / "params.yaml").write_text(params)
    assert (
        "error: params.yaml: conditions: roman needs a module model/conditions/roman.py, as the"
        " others have" in said
    )
    assert set(re.findall(r"Running stage '([^']+)'", said)) == {"params"}
