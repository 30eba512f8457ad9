"""Read the committed metrics of every run: hashes and counts from data to items, and checks."""

from pathlib import Path
from typing import Any, NamedTuple

from common.errors import PipelineError
from common.sections import read_json


class Export(NamedTuple):
    """One exported checkpoint.

    Hashes are SHA-256 in full. `difference` is the largest of two logits on `tokens` tokens.
    `items` has the number of items by task.
    """

    condition: str
    seed: int
    step: int
    documents_sha256: str
    weights_sha256: str
    difference: float
    tokens: int
    items: dict[str, int]


class Check(NamedTuple):
    """A condition that must hold, whether it does, and the figures that show it."""

    holds: bool
    name: str
    figures: str


def read_exports(
    metrics: Path, conditions: list[str], seeds: list[int], steps: list[int]
) -> list[Export]:
    """Return every export of the runs, in order of condition, seed and step.

    Raises PipelineError, which names it, if a file is missing or lacks figures.
    """
    return [
        _export(metrics, condition, seed, step)
        for condition in conditions
        for seed in seeds
        for step in steps
    ]


def _export(metrics: Path, condition: str, seed: int, step: int) -> Export:
    """Read one export from three files: tokenize.json, parity.json and evaluation.json."""
    folder = metrics / condition / f"seed_{seed}" / f"step_{step}"
    texts, parity, scores = (
        read_json(path, dict)
        for path in (
            metrics / condition / "tokenize.json",
            folder / "parity.json",
            folder / "evaluation.json",
        )
    )
    try:
        items = {task: found["acc_norm"]["total"] for task, found in sorted(scores.items())}
        identities = (texts["train"]["documents_sha256"], parity["weights_sha256"])
        return Export(
            condition,
            seed,
            step,
            *identities,
            parity["max_abs_logit_difference"],
            parity["tokens"],
            items,
        )
    except (KeyError, TypeError) as error:
        raise PipelineError(
            f"{folder}: not the figures of export and evaluate ({error!r}); run dvc repro"
        ) from None


def checks(exports: list[Export], tolerance: float, twins: dict[str, str]) -> list[Check]:
    """Return the checks of exports and data without which the figures mean nothing.

    `twins` maps a condition to an earlier one with the same pretraining, whose networks it shares.
    """
    worst, fewest = (
        max(export.difference for export in exports),
        min(export.tokens for export in exports),
    )
    # Twins share their networks on purpose and are left out of the check of weights.
    networks = [export for export in exports if export.condition not in twins]
    weights = {export.weights_sha256 for export in networks}
    shared = "".join(f"; {name} is pretrained as {other} is" for name, other in twins.items())
    documents = {export.documents_sha256 for export in exports}
    asked = {tuple(export.items.items()) for export in exports}
    said = ", ".join(f"{task} {count:,}" for task, count in exports[0].items.items())
    return [
        Check(
            # A tolerance of 1 or more turns the gate's check of weights off.
            worst <= tolerance < 1,
            "Every export gives its checkpoint's logits",
            f"{len(exports)} exports, largest difference {worst:.2g} on at least {fewest:,} tokens,"
            f" tolerance {tolerance:.2g}",
        ),
        Check(
            len(weights) == len(networks),
            "No two exports have the same weights",
            f"{len(weights)} of {len(networks)} distinct{shared}",
        ),
        Check(
            len(documents) == 1,
            "All conditions were made from the same training documents, in the same order",
            f"{len(documents)} SHA-256 of the documents' text",
        ),
        Check(
            len(asked) == 1,
            "Every checkpoint answered as many items",
            f"{said}" if len(asked) == 1 else f"{len(asked)} counts",
        ),
    ]


def sources(fetch: dict[str, Any], name: str = "") -> list[tuple[str, str, str]]:
    """Return (input, origin, hash or revision) for every source in params.yaml's section `fetch`.

    `name` is the dotted path so far, with spaces; sections may contain sections.
    """
    rows = []
    for key, section in fetch.items():
        if not isinstance(section, dict):
            continue
        source, place = section.get("source"), f"{name} {key}".strip()
        rows += _pins(place, source) if isinstance(source, dict) else sources(section, place)
    return rows


def _pins(name: str, source: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return a row for each file's SHA-256, for the revision, and for the source's own SHA-256."""
    words = " ".join(
        str(value)
        for key, value in source.items()
        if key not in ("files", "revision", "sha256", "kind") and value
    )
    pinned = [
        (f"{words} {file['path']}".strip(), file["sha256"]) for file in source.get("files", [])
    ]
    rows = [(name, place, f"SHA-256 {digest}") for place, digest in pinned]
    rows += [(name, words, f"revision {source['revision']}")] if source.get("revision") else []
    return rows + ([(name, words, f"SHA-256 {source['sha256']}")] if source.get("sha256") else [])
