"""How much fact tokens are used: in documents, in fine-tuning, in answers, and for products."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import PipelineError
from common.sections import read_json
from model.results.markdown_table import csv_bytes

# Files of the probes stage, and the models that they are about.
_MODELS = {"exports": "pretrained", "sft": "fine-tuned"}
_PROMPTS = ("plain", "injected")

# By `Usage.where`: the number of facts, and the total.
Counts = dict[str, tuple[int, int]]


class Usage(NamedTuple):
    """One count: `facts` of `total` tokens, answers or questions involve a fact token."""

    condition: str
    # None for documents, which all seeds share.
    seed: int | None
    # What is counted, in words.
    where: str
    facts: int
    total: int

    @property
    def share(self) -> float:
        """Return facts / total, from 0 to 1; 0 if the total is 0."""
        return self.facts / self.total if self.total else 0.0


def document_usage(path: Path, condition: str) -> list[Usage]:
    """Read a condition's tokenize.json; raise PipelineError, which names it, if it is damaged."""
    return _read(path, "tokenize", condition, None, _documents)


def run_usage(folder: Path, condition: str, seed: int) -> list[Usage]:
    """Read one run's sft.json, gsm8k.json and probes/ below `folder`.

    Raises PipelineError, which names the file, if one is damaged.
    """
    usages = _read(folder / "sft.json", "sft", condition, seed, _learned)
    usages += _read(folder / "gsm8k.json", "gsm8k", condition, seed, _answers)
    for models, words in _MODELS.items():
        path = folder / "probes" / f"{models}.json"
        usages += _read(path, "probes", condition, seed, partial(_products, model=words))
    return usages


def _documents(metrics: dict[str, Any]) -> Counts:
    """Count expressions that became fact tokens, and fact tokens among all training tokens."""
    forms = metrics["expressions"].values()
    return {
        "expressions in documents that became tokens": (
            sum(form["changed"] for form in forms),
            sum(form["found"] for form in forms),
        ),
        "tokens of training documents that are facts": (
            metrics["train"]["mul_fact_tokens"],
            metrics["train"]["tokens"],
        ),
    }


def _learned(metrics: dict[str, Any]) -> Counts:
    return {
        "tokens learned in fine-tuning that are facts": (
            metrics["facts"],
            metrics["learned_tokens"],
        )
    }


def _answers(metrics: dict[str, Any]) -> Counts:
    """Count answers with at least one fact token.

    The total contains problems that were too long to be asked; they have no answer.
    """
    problems = {"generated": "generated problems", "gsm8k": "GSM8K"}
    return {
        f"answers to {words} that have a fact": (
            metrics[key]["facts"],
            metrics[key]["strict"]["total"],
        )
        for key, words in problems.items()
    }


def _products(metrics: dict[str, Any], model: str) -> Counts:
    """Count products that were answered rightly by a fact token, over all groups."""
    counts = {}
    for prompt in _PROMPTS:
        rates = [group["fact_token"] for group in metrics[prompt].values()]
        totals = sum(rate["correct"] for rate in rates), sum(rate["total"] for rate in rates)
        counts[f"right products by a fact's token: {model}, {prompt} prompts"] = totals
    return counts


def _read(
    path: Path,
    stage: str,
    condition: str,
    seed: int | None,
    count: Callable[[dict[str, Any]], Counts],
) -> list[Usage]:
    metrics = read_json(path, dict)
    try:
        usages = [
            Usage(condition, seed, where, *counts) for where, counts in count(metrics).items()
        ]
        # A damaged file may have text or negative numbers in place of counts.
        for usage in usages:
            if not (
                isinstance(usage.facts, int)
                and isinstance(usage.total, int)
                and 0 <= usage.facts <= usage.total
            ):
                raise ValueError(f"{usage.where}: {usage.facts!r} of {usage.total!r}")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: not the {stage} stage's ({error!r}); run dvc repro {stage}"
        ) from None
    return usages


def usage_csv(usages: list[Usage]) -> bytes:
    """Return the usages as CSV, one row each; the last column is the share."""
    return csv_bytes([*Usage._fields, "share"], ([*usage, usage.share] for usage in usages))
