"""Words for a condition's own values, and for its differences from the first condition."""

import json
from collections.abc import Mapping
from typing import Any

from model.conditions.effective import Sections, effective_sections


def settings(own: Sections) -> list[str]:
    """Return a condition's own values, each as `pretrain.learning_rate 0.02`."""
    return [f"{key} {_shown(value)}" for key, value in _leaves(own).items()]


def differences(base: Sections, conditions: Mapping[str, Sections]) -> dict[str, list[str]]:
    """Return for each condition except the first how it differs from the first.

    A difference reads `pretrain.learning_rate 0.002 → 0.02`. `base` has the sections that a
    condition may override.
    """
    effective = {name: _leaves(effective_sections(base, own)) for name, own in conditions.items()}
    # Mappings keep the order of params.yaml: the first condition is what others are compared with.
    [first, *others] = effective
    return {name: _changes(effective[first], effective[name]) for name in others}


def _changes(first: dict[str, Any], other: dict[str, Any]) -> list[str]:
    return [
        f"{key} {_shown(first.get(key))} → {_shown(other.get(key))}"
        # The first one's keys in their order, then keys that only the other has.
        for key in {**first, **other}
        if first.get(key) != other.get(key)
    ]


def _leaves(value: Any, key: str = "") -> dict[str, Any]:
    """Flatten nested mappings: {"pretrain": {"beta1": 0.9}} becomes {"pretrain.beta1": 0.9}."""
    if not isinstance(value, Mapping):
        return {key: value}
    return {
        leaf: found
        for name, child in value.items()
        for leaf, found in _leaves(child, f"{key}.{name}" if key else name).items()
    }


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
