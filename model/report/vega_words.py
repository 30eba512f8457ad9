"""What the tooltips of charts say."""

from typing import Any

Spec = dict[str, Any]


def of_revision(revisions: bool) -> list[Spec]:
    return [{"field": "rev", "type": "nominal", "title": "revision"}] if revisions else []


def words() -> list[Spec]:
    """Return transforms to what tooltips say of a row."""
    splits = (
        "datum.split === 'train' ? 'training' : datum.split === 'val' ? 'validation' : 'export'"
    )
    interval = "isValid(datum.low) ? format(datum.low, '.4~f') + ' to ' + format(datum.high, '.4~f') : 'none'"
    return [
        {"calculate": splits, "as": "measured on"},
        {"calculate": interval, "as": "95 % interval"},
    ]


def tooltips() -> list[Spec]:
    texts = [{"field": field, "type": "nominal"} for field in ("condition", "seed", "measured on")]
    counts = [
        {"field": field, "type": "quantitative", "format": ","} for field in ("step", "tokens")
    ]
    value = {"field": "value", "type": "quantitative", "format": ".5~g"}
    return [*texts, *counts, value, {"field": "95 % interval", "type": "nominal"}]
