"""Read and write outcomes by item as one small text file, metrics/outcomes.jsonl.

Git keeps the file, so that revisions can be compared without any data. It has a line for each set
of items, then one for each figure of each run:

    {"set": 0, "items": SHA-256, "clusters": [0, 0, 1, …], "crossed": […], "weights": […]}
    {"condition": …, "seed": …, "model": …, "figure": …, "set": 0, "answers": "a0…"}

    clusters   numbers that stand for the clusters' names
    crossed    only where items are clustered in two ways
    weights    bytes; left out for answers, whose weights are 1
    answers    hexadecimal, one bit for each item: "a0" is 1010 0000, items 0 and 2 are right
    values     bits rounded to 4 decimals, in place of `answers` for bits per byte
    item_set, chance, role    as in model/comparison/outcomes.py, left out where empty
"""

import json
from typing import Any, NamedTuple, get_args

import numpy as np

from common.errors import PipelineError
from model.comparison.outcomes import Outcomes, Role

# Decimals of a document's or an ending's bits.
_DECIMALS = 4


class Key(NamedTuple):
    """Which run, model and figure: `model` is a checkpoint such as "step 500", or "fine-tuned"."""

    condition: str
    seed: int
    model: str
    figure: str


def outcome_lines(found: dict[Key, Outcomes]) -> str:
    """Return the text of the file, one JSON object a line."""
    # Figures measured on the same items with the same weights share one line of items.
    sets = {_set(outcomes): outcomes for outcomes in found.values()}
    number = {one: place for place, one in enumerate(sets)}
    rows = [{"set": place, **_items_row(outcomes)} for place, outcomes in enumerate(sets.values())]
    rows += [
        {**key._asdict(), "set": number[_set(outcomes)], **_labels(outcomes), **_values(outcomes)}
        for key, outcomes in found.items()
    ]
    return "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)


def parse_outcomes(text: str, where: str) -> dict[Key, Outcomes]:
    """Parse the text of `outcome_lines`; raise PipelineError, which names `where`, if it is not."""
    sets: dict[int, dict[str, Any]] = {}
    found: dict[Key, Outcomes] = {}
    try:
        for line in text.splitlines():
            row = json.loads(line)
            if "figure" in row:
                found[_key(row)] = _parse(row, sets[row["set"]])
            else:
                sets[row["set"]] = row
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{where}: not the compare stage's ({error!r}); run dvc repro compare there"
        ) from None
    return found


def _set(outcomes: Outcomes) -> tuple[object, ...]:
    """Return a key that figures with one line of items share."""
    return outcomes.items, outcomes.weights.tobytes(), outcomes.crossed and tuple(outcomes.crossed)


def _items_row(outcomes: Outcomes) -> dict[str, Any]:
    row: dict[str, Any] = {"items": outcomes.items, "clusters": _numbered(outcomes.clusters)}
    if outcomes.crossed is not None:
        row["crossed"] = _numbered(outcomes.crossed)
    return row if outcomes.is_answers else {**row, "weights": outcomes.weights.astype(int).tolist()}


def _numbered(clusters: list[str]) -> list[int]:
    """Return clusters as numbers in order of their names: ["b", "a", "b"] gives [1, 0, 1]."""
    numbers: list[int] = np.unique(clusters, return_inverse=True)[1].tolist()
    return numbers


def _labels(outcomes: Outcomes) -> dict[str, Any]:
    labels = {field: getattr(outcomes, field) for field in ("item_set", "chance", "role")}
    return {field: value for field, value in labels.items() if value not in (None, "")}


def _values(outcomes: Outcomes) -> dict[str, Any]:
    # packbits fills the last byte with zeros; `_parse` cuts them by the number of clusters.
    if not outcomes.is_answers:
        return {"values": outcomes.values.round(_DECIMALS).tolist()}
    return {"answers": np.packbits(outcomes.values.astype(bool)).tobytes().hex()}


def _key(row: dict[str, Any]) -> Key:
    key = Key(*(row[field] for field in Key._fields))
    if [type(part) for part in key] != [str, int, str, str]:
        raise TypeError(f"{key} names no figure of a run")
    return key


def _parse(row: dict[str, Any], items: dict[str, Any]) -> Outcomes:
    """Return one figure's outcomes; raise ValueError if lengths or values are not possible."""
    clusters = [str(number) for number in items["clusters"]]
    crossed = [str(number) for number in items["crossed"]] if "crossed" in items else None
    count = len(clusters)
    # Answers are bits, eight a byte, the first item's the highest; weights are 1.
    if "answers" in row:
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(row["answers"]), dtype=np.uint8))
        values, weights = bits[:count].astype(np.float64), np.ones(count)
    else:
        values, weights = (
            np.array(row["values"], dtype=np.float64),
            np.array(items["weights"], dtype=np.float64),
        )
    if not count or values.shape != (count,) or weights.shape != (count,):
        raise ValueError(f"{values.size} values of {count} items")
    if crossed is not None and len(crossed) != count:
        raise ValueError(f"{len(crossed)} crossed clusters of {count} items")
    if not (np.isfinite(values).all() and np.isfinite(weights).all()):
        raise ValueError("a value is not a finite number")
    role, chance = row.get("role", ""), row.get("chance")
    if role not in get_args(Role) or not (chance is None or 0 <= chance < 1):
        raise ValueError(f"role {role!r}, chance {chance!r}")
    return Outcomes(
        values,
        weights,
        clusters,
        items["items"],
        "answers" in row,
        crossed,
        str(row.get("item_set", "")),
        chance,
        role,
    )
