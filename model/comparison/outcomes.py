"""One run's outcome of every item: the values by which conditions, or revisions, are compared.

A figure is the sum of its values over the sum of its weights. An answer has the value 1 or 0 and
the weight 1; for bits per byte, values are bits and weights bytes.
"""

import hashlib
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import PipelineError
from common.files import read_jsonl
from model.params.source_names import DRILL_SOURCE
from model.post_training.arithmetic_probes import read_answers
from model.pretraining.document_losses import read_document_losses
from model.tasks.item_scores import (
    ItemScore,
    gold_nats_and_bytes,
    is_acc_norm_right,
    read_scores,
)
from model.tasks.labels import (
    COMPARED_RULES,
    PRODUCT_GROUPS,
    RULES,
    label_of,
    problem_set_words,
    task_figures,
    true_endings_words,
)
from model.tasks.problem_sets import PROBLEM_SETS
from model.tasks.table import Task
from model.tasks.wordings import WORDINGS
from model.tokens.facts import MulFact

Role = Literal["primary", "secondary", ""]


class Outcomes(NamedTuple):
    """One figure by item.

    `clusters` has the cluster of each item; `crossed` is a second way to cluster them: each product
    is of one fact, and asked in one form. `items` is a SHA-256: figures that share it were measured
    on the same items in the same order, with the same clusters. `item_set` is that of a task, and
    `chance` the accuracy of guessing its items, None for bits per byte. `role` says whether the
    figure has a p with several seeds (model/comparison/family.py).
    """

    values: NDArray[np.float64]  # (items,)
    weights: NDArray[np.float64]  # (items,)
    clusters: list[str]
    items: str
    is_answers: bool
    crossed: list[str] | None = None
    item_set: str = ""
    chance: float | None = None
    role: Role = ""


# The primary figure: it moves early, and every condition and task has it.
VALIDATION = "validation"


def validated(directory: Path) -> dict[str, Outcomes]:
    """Return the loss of natural text by document, of the pretrain stage's losses in `directory`.

    Documents are the units: sources are fixed, and the sample has of each its share of documents.
    """
    rows = [
        row
        for row in read_document_losses(directory / "documents.csv")
        if row.source != DRILL_SOURCE
    ]
    asked = (f"{row.document}\0{row.source}\0{row.original_bytes}" for row in rows)
    return {
        VALIDATION: Outcomes(
            np.array([row.nats for row in rows]) / math.log(2),
            np.array([row.original_bytes for row in rows], dtype=np.float64),
            [str(row.document) for row in rows],
            _sha256(asked),
            is_answers=False,
            role="primary",
        )
    }


def evaluated(
    directory: Path, tasks: list[Task], has_true_endings: bool = False
) -> dict[str, Outcomes]:
    """Return every task's figures of one checkpoint, of the evaluate stage's scores in `directory`.

    Which figures they are, and their names, is in model/tasks/labels.py. With `has_true_endings`
    bits per byte of the true endings are among them for every task whose endings are text.
    """
    found: dict[str, Outcomes] = {}
    for task in tasks:
        scores = read_scores(directory / f"{task.name}.jsonl")
        clusters, items = _asked(scores)
        labels = {figure.is_accuracy: figure.label for figure in task_figures([task])}
        if has_true_endings and task.is_first and label_of(task).has_text:
            labels.setdefault(False, true_endings_words(task))
        for is_accuracy, label in labels.items():
            if is_accuracy:
                right = is_acc_norm_right(scores, WORDINGS[task.wording])
                outcomes = _answers(right, clusters, items)
                guessed = math.fsum(1 / len(score.nats) for score in scores) / len(scores)
                found[label] = outcomes._replace(item_set=task.items, chance=guessed)
            else:
                nats, lengths = gold_nats_and_bytes(scores)
                found[label] = Outcomes(
                    nats / math.log(2),
                    lengths.astype(np.float64),
                    clusters,
                    _sha256([items, *clusters]),
                    is_answers=False,
                    item_set=task.items,
                )
    return found


def answered(directory: Path) -> dict[str, Outcomes]:
    """Return the figures of a fine-tuned model's answers, of the gsm8k stage's readings."""
    found = {}
    for name in PROBLEM_SETS:
        path = directory / f"{name}.jsonl"
        rows = read_jsonl(path)
        try:
            clusters = [row["cluster"] for row in rows]
            items = _sha256(f"{row['question']}\0{row['gold']}" for row in rows)
            for rule in COMPARED_RULES:
                right = np.array([_is_right(row[rule], row["gold"]) for row in rows])
                figure = f"{problem_set_words(name)}, {RULES[rule]}"
                outcomes = _answers(right, clusters, items)
                found[figure] = outcomes._replace(role="secondary" if rule == "strict" else "")
        except (KeyError, TypeError, ValueError) as error:
            raise PipelineError(
                f"{path}: not the gsm8k stage's readings ({error!r}); run dvc repro gsm8k"
            ) from None
    return found


def _is_right(answer: str | None, gold: str) -> bool:
    return answer is not None and Fraction(answer) == Fraction(gold)


def probed(directory: Path) -> dict[str, Outcomes]:
    """Return the figures of one model's products, asked in text, of the probes stage's answers.

    An answer is right in text or by a fact's token: text alone would count against the condition
    that has such tokens. The questions are all facts there are, so another sample would differ in
    its wordings: answers are clustered by fact and by form.
    """
    answers = [
        answer for answer in read_answers(directory / "answers.jsonl") if not answer.injected
    ]
    found = {}
    for group, words in PRODUCT_GROUPS.items():
        mine = [answer for answer in answers if answer.group == group]
        facts = [str(MulFact(*sorted((answer.a, answer.b)))) for answer in mine]
        right = [
            answer.a * answer.b in (answer.text_answer, answer.fact_token_answer) for answer in mine
        ]
        outcomes = _answers(np.array(right), facts, _sha256(answer.prompt for answer in mine))
        found[f"products, {words}"] = outcomes._replace(crossed=[answer.form for answer in mine])
    return found


def _asked(scores: list[ItemScore]) -> tuple[list[str], str]:
    """Return the items' clusters, and a SHA-256 of the items."""
    items = _sha256(
        f"{score.ind}\0{score.source_id}\0{score.label}\0{score.characters}" for score in scores
    )
    return [score.source_id for score in scores], items


def _answers(right: NDArray[np.bool_], clusters: list[str], items: str) -> Outcomes:
    return Outcomes(
        right.astype(np.float64), np.ones(len(right)), clusters, _sha256([items, *clusters]), True
    )


def _sha256(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
