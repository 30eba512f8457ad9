"""What every item says of one run: values that two conditions, or two revisions, are compared by.

A figure is the sum of its values over the sum of its weights. Answers are 1 or 0 with weight 1; of bits per byte the values are
bits and the weights bytes.
"""

import hashlib
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import PipelineError
from common.files import read_jsonl
from model.post_training.arithmetic_probes import read_answers
from model.tasks.item_scores import ItemScore, read_scores
from model.tasks.wordings import CONVENTIONS
from model.tokens.facts import MulFact


class Outcomes(NamedTuple):
    """One figure by item: `values` and `weights` float64 (items,), the items' `clusters`, and `items`, a SHA-256 of the items.

    Two figures of the same `items` were measured on the same items in the same order, with the same
    clusters. `crossed` is a second way to cluster them: products are of a fact, and asked in a
    form.
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    clusters: list[str]
    items: str
    is_answers: bool
    crossed: list[str] | None = None


# A figure's name, the file of scores, and the rule that divides an ending's log-likelihood.
_ACCURACIES = (
    ("HellaSwag acc_norm", "hellaswag", "reference"),
    ("HellaSwag acc_norm, lm-evaluation-harness", "hellaswag_lm_eval", "lm_eval"),
    ("continuation acc_norm", "continuation", "reference"),
)
_GROUPS = {"seen": "seen", "held_out_pair": "held-out pair", "held_out_form": "held-out form"}


def evaluated(directory: Path) -> dict[str, Outcomes]:
    """Return the figures of one checkpoint, of the evaluate stage's scores in `directory`."""
    found = {}
    for name, task, convention in _ACCURACIES:
        scores = read_scores(directory / f"{task}.jsonl")
        nats = np.array([score.nats for score in scores])
        lengths = np.array(
            [getattr(score, CONVENTIONS[convention].acc_norm_by) for score in scores]
        )
        labels = np.array([score.label for score in scores])
        found[name] = _answers((nats / lengths).argmin(axis=1) == labels, *_asked(scores))
        if task == "hellaswag":
            gold = np.arange(len(scores)), labels
            of_gold = np.array([score.bytes for score in scores], dtype=np.float64)[gold]
            clusters, items = _asked(scores)
            asked = _sha256([items, *clusters])
            found["HellaSwag, true endings"] = Outcomes(
                nats[gold] / math.log(2), of_gold, clusters, asked, False
            )
    return found


def answered(directory: Path) -> dict[str, Outcomes]:
    """Return the figures of the fine-tuned model's answers, of the gsm8k stage's readings in `directory`."""
    found = {}
    for name, words in (("generated", "generated problems"), ("gsm8k", "GSM8K")):
        path = directory / f"{name}.jsonl"
        rows = read_jsonl(path)
        try:
            clusters = [row["cluster"] for row in rows]
            items = _sha256(f"{row['question']}\0{row['gold']}" for row in rows)
            for rule in ("strict", "flexible"):
                right = [
                    row[rule] is not None and Fraction(row[rule]) == Fraction(row["gold"])
                    for row in rows
                ]
                found[f"{words}, {rule}"] = _answers(np.array(right), clusters, items)
        except (KeyError, TypeError, ValueError) as error:
            raise PipelineError(
                f"{path}: not the gsm8k stage's readings ({error!r}); run dvc repro gsm8k"
            ) from None
    return found


def probed(directory: Path) -> dict[str, Outcomes]:
    """Return the figures of one model's products, asked in text, of the probes stage's answers in `directory`.

    An answer is right in text or by a fact's token: text alone would count against the condition
    that has such tokens. All facts are asked for, so what others there could be are other wordings:
    answers are clustered by fact and by form.
    """
    answers = [
        answer for answer in read_answers(directory / "answers.jsonl") if not answer.injected
    ]
    found = {}
    for group, words in _GROUPS.items():
        mine = [answer for answer in answers if answer.group == group]
        facts = [str(MulFact(*sorted((answer.a, answer.b)))) for answer in mine]
        right = np.array(
            [
                answer.a * answer.b in (answer.text_answer, answer.fact_token_answer)
                for answer in mine
            ]
        )
        outcomes = _answers(right, facts, _sha256(answer.prompt for answer in mine))
        found[f"products, {words}"] = outcomes._replace(crossed=[answer.form for answer in mine])
    return found


def _asked(scores: list[ItemScore]) -> tuple[list[str], str]:
    """Return the items' clusters, and what tells one set of items from another."""
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
