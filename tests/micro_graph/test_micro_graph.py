"""The whole micro graph through `dvc repro`: it runs, leaves nothing to do, and is what `make
check` accepts.
"""

from pathlib import Path

import pytest
from micro_graph import AUTHOR, copy_of, finished_graph, outputs, repro, shell  # noqa: F401
from worked_item import worked_item

from model.data.items import read_stored_items
from model.tasks.item_scores import read_scores
from pipeline.check import check
from pipeline.declared.file_trees import WorkingTree

pytestmark = pytest.mark.slow("31 stages run, a process each", minutes=2)


@pytest.fixture(scope="module")
def clone(finished_graph, tmp_path_factory) -> Path:
    return copy_of(finished_graph, tmp_path_factory.mktemp("micro") / "clone")


def test_every_stage_of_the_graph_runs(finished_graph):
    executed = (finished_graph.parent / "executed.txt").read_text().split()
    assert "curves" in executed
    assert len(executed) == 33


def test_the_item_that_the_documents_score_is_the_first_one(finished_graph):
    item = worked_item()
    [first, *_] = read_stored_items(finished_graph / "data/items/hellaswag.jsonl")
    assert (first.ctx, first.endings) == (item.context, item.endings)
    scores = finished_graph / "scores/baseline/seed_1/step_200"
    score = read_scores(scores / "hellaswag.jsonl")[0]
    nats = [round(each, 2) for each in score.nats]
    assert score._replace(ind=0, source_id="", nats=nats) == item.score
    other = read_scores(scores / "hellaswag_lm_eval.jsonl")[0]
    gold, length = other.nats[other.label], other.characters[other.label]
    assert f"{gold:.2f} nats, {gold / length:.3f} per character" in " ".join(item.section.split())


def test_a_second_repro_runs_nothing(clone):
    before = outputs(clone)
    assert repro(clone) == set()
    assert outputs(clone) == before


def test_git_would_commit_metrics_and_plots_and_no_data(clone):
    new = shell(["git", "status", "--short", "--untracked-files=all"], clone).split()[1::2]
    roots = {name.split("/")[0] for name in new}
    assert roots == {"dvc.lock", "dvc.contents.json", "metrics", "plots"}
    assert "plots/report.html" not in new


def test_make_check_accepts_it(clone):
    shell(["git", "add", "-A"], clone)
    shell(["git", *AUTHOR, "commit", "-qm", "results"], clone)
    assert "up to date" in shell(["dvc", "status"], clone)
    assert check(WorkingTree(clone)) == []
    shell(["make", "--old-file=.venv/.ready", "check"], clone)
