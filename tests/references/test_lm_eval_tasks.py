"""Every task is lm-evaluation-harness's own: the same text for every item, the same answers."""

from pathlib import Path

import pytest
from gpt2_directories import predictions, save_gpt2, scored
from harness_tasks import DEFINITIONS, FETCH, harness_predictions, harness_task, wheel_items

from model.data.items import Item
from model.sources import task_formats
from model.tasks.item_scores import is_acc_right, summarize
from model.tasks.wordings import WORDINGS

pytestmark = pytest.mark.slow("lm-evaluation-harness reads and scores nine benchmarks", minutes=2)

LM_EVAL = WORDINGS["lm_eval"]
ASKED = 24


def asked(item: Item) -> list[tuple[str, str]]:
    """Return what an item's endings are asked with: a context and what continues it."""
    question = LM_EVAL.question(item)
    contexts = [question.context + option for option in question.options]
    contexts = contexts or [question.context] * len(question.endings)
    return [(text, f" {end}") for text, end in zip(contexts, question.endings, strict=True)]


def different(task, items: list[Item]) -> list[int]:
    """Return the numbers of the items that the harness asks otherwise."""
    task.build_all_requests(limit=None, rank=0, world_size=1)
    theirs: dict[int, list[tuple[str, str]]] = {}
    for request in task.instances:
        theirs.setdefault(request.doc_id, []).append(request.arguments)
    assert len(theirs) == len(items)
    return [number for number, item in enumerate(items) if asked(item) != theirs[number]]


def true_ending(task, document: dict) -> int:
    """Return the place of the true ending, as the harness finds it."""
    if task.multiple_input:
        return task.doc_to_text(document)
    target = task.doc_to_target(document)
    if isinstance(target, str):
        choices = task.doc_to_choice(document)
        return int(target) if target.isdigit() else choices.index(target)
    return target


def test_every_published_task_of_the_demonstration_is_held_to_the_harness():
    assert set(DEFINITIONS) == set(FETCH.tasks)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_every_item_is_asked_as_the_harness_asks_it(name, tmp_path):
    task, items = harness_task(name, tmp_path), wheel_items(name)
    assert different(task, items) == []
    labels = [true_ending(task, document) for document in task.validation_docs()]
    assert labels == [item.label for item in items]


@pytest.mark.parametrize("name", ["arc_easy", "copa", "winogrande"])
def test_another_text_would_be_noticed(name, tmp_path, monkeypatch):
    right = task_formats.FORMATS[FETCH.tasks[name].format]

    def without_last_character(record, number):
        fields = right(record, number)
        return fields | {"ctx": fields["ctx"][:-1]}

    monkeypatch.setitem(task_formats.FORMATS, FETCH.tasks[name].format, without_last_character)
    assert different(harness_task(name, tmp_path), wheel_items(name))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tokenizer) -> Path:
    """A network that was trained for a moment, so that its answers are not all ties."""
    texts = [item.ctx for item in wheel_items("hellaswag")[:400]]
    directory = tmp_path_factory.mktemp("export")
    return save_gpt2(directory, tokenizer, 2, heads=4, width=64, context=256, train_on=texts)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_the_harness_gives_the_same_answers(name, trained, tmp_path):
    items = wheel_items(name)[:ASKED]
    found = harness_predictions(harness_task(name, tmp_path), trained, ASKED)
    scores = scored(trained, items, LM_EVAL)
    for score, (nats, right) in zip(scores, found.items, strict=True):
        assert score.nats == pytest.approx(nats, abs=1e-3)
        assert score.nats.index(min(score.nats)) == nats.index(min(nats))
        assert (score.nats.index(min(score.nats)) == score.label) == right
    metrics = summarize(scores, LM_EVAL)
    assert metrics["acc"]["rate"] == found.acc == is_acc_right(scores).mean()
    # The harness publishes no acc_norm of the others.
    if found.acc_norm is not None:
        assert metrics["acc_norm"]["rate"] == found.acc_norm
    assert metrics["chance"] == pytest.approx(
        sum(1 / len(nats) for nats, _ in found.items) / len(items)
    )
    assert len(predictions(scores, LM_EVAL)) == ASKED
