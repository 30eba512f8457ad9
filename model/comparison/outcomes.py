"""One run's outcome of every item: the values by which conditions, or revisions, are compared.

A figure is the sum of its values over the sum of its weights:

    accuracy         value 1 or 0    weight 1
    bits per byte    value in bits   weight in bytes
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
    """One figure of one model, by item."""

    values: NDArray[np.float64]  # (items,)
    weights: NDArray[np.float64]  # (items,)
    # Each item's cluster.
    clusters: list[str]
    # A SHA-256. Figures that share it were measured on the same items in the same order, with the
    # same clusters.
    items: str
    is_answers: bool
    # Each item's cluster in a second way: a product has a fact (`clusters`) and a form.
    crossed: list[str] | None = None
    # The task's items, which two wordings of the task share. Empty if the figure is not a task's.
    item_set: str = ""
    # The accuracy of guessing, 0 to 1. None for bits per byte.
    chance: float | None = None
    # Which family tests the figure if there are several seeds (model/comparison/family.py).
    role: Role = ""


# The primary figure. It changes early in training, and every condition has it with any tasks.
VALIDATION = "validation"


def validated(directory: Path) -> dict[str, Outcomes]:
    """Return the validation loss of natural text by document, from the pretrain stage's files.

    Each document is its own cluster. The sources are fixed, and the validation sample has from each
    source its share of documents. Drills (generated products) are left out.
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
    """Return every task's figures of one checkpoint, from the evaluate stage's scores.

    model/tasks/labels.py says which figures a task has and names them. `has_true_endings` adds the
    true endings' bits per byte for every task whose endings are text. Raises PipelineError if a
    file of scores has other fields.
    """
    found: dict[str, Outcomes] = {}
    for task in tasks:
        scores = read_scores(directory / f"{task.name}.jsonl")
        clusters, items = _asked(scores)
        # At most two figures: True is the key of the accuracy, False that of bits per byte.
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
                    # nats to bits
                    nats / math.log(2),
                    lengths.astype(np.float64),
                    clusters,
                    _sha256([items, *clusters]),
                    is_answers=False,
                    item_set=task.items,
                )
    return found


def answered(directory: Path) -> dict[str, Outcomes]:
    """Return the figures of a fine-tuned model's answers, from the gsm8k stage's readings.

    Raises PipelineError if a file has other fields.
    """
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
    # Fractions compare by value: "0.50" equals "1/2".
    return answer is not None and Fraction(answer) == Fraction(gold)


def probed(directory: Path) -> dict[str, Outcomes]:
    """Return the figures of one model's products asked in text, from the probes stage's answers.

    An answer is right as text or as a fact token: counting text alone would put the condition with
    fact tokens at a disadvantage. All facts are asked, so another sample would differ in its
    wordings only. Answers are therefore clustered by fact and by form.
    """
    answers = [
        answer for answer in read_answers(directory / "answers.jsonl") if not answer.injected
    ]
    found = {}
    for group, words in PRODUCT_GROUPS.items():
        mine = [answer for answer in answers if answer.group == group]
        # Sorted factors: 6 × 7 and 7 × 6 are one fact.
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
    """Return answers as outcomes: values 1 or 0, weights 1."""
    return Outcomes(
        right.astype(np.float64), np.ones(len(right)), clusters, _sha256([items, *clusters]), True
    )


def _sha256(texts: Iterable[str]) -> str:
    """Return the SHA-256 of `texts` joined by line feeds, in hexadecimal."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()
