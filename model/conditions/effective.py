"""The sections of params.yaml as each condition has them, and which conditions share a network."""

from collections.abc import Mapping
from typing import Any

from common.sections import overridden

# Sections by name: params.yaml's, or what a condition has in place of their values.
Sections = Mapping[str, Any]

_PRETRAINING = ("tokenize", "model", "pretrain")


def effective_sections(base: Sections, own: Sections) -> dict[str, Any]:
    """Return the sections of a condition that has `own` in place of the values of `base`.

    They are those that `own` names. Keys are valid: the stage `params` has checked them.
    """
    return {section: overridden(base[section], own[section]) for section in own}


def with_effect(sections: Sections) -> dict[str, Any]:
    """Return a condition's effective sections without what its own values make idle."""
    pretrain = sections["pretrain"]
    idle = {
        key
        for key in pretrain
        if (key.startswith("muon_") and pretrain.get("optimizer") != "muon")
        or (key == "decay_steps" and pretrain.get("schedule") != "wsd")
    }
    kept = {key: value for key, value in pretrain.items() if key not in idle}
    return {**sections, "pretrain": kept}


def twins(base: Sections, conditions: Mapping[str, Sections]) -> dict[str, str]:
    """Return the conditions that are pretrained as an earlier one is, with that one's name.

    They differ from it in fine-tuning alone, so their pretrained networks are the same.
    """
    found: dict[str, str] = {}
    first: list[tuple[str, list[Any]]] = []
    for name, own in conditions.items():
        sections = with_effect(effective_sections(base, own))
        mine = [sections[section] for section in _PRETRAINING]
        earlier = [other for other, theirs in first if theirs == mine]
        if earlier:
            found[name] = earlier[0]
        else:
            first.append((name, mine))
    return found
