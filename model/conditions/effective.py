"""Each condition's sections of params.yaml, and which conditions share a pretrained network."""

from collections.abc import Mapping
from typing import Any

from common.sections import overridden

# Sections by name: those of params.yaml, or the values that a condition overrides in them.
Sections = Mapping[str, Any]

_PRETRAINING = ("tokenize", "model", "pretrain")


def effective_sections(base: Sections, own: Sections) -> dict[str, Any]:
    """Return the sections that `own` names, with its values in place of those of `base`.

    `own` is one condition's overrides, such as {"pretrain": {"learning_rate": 0.02}}. The stage
    `params` has checked its keys.
    """
    return {section: overridden(base[section], own[section]) for section in own}


def with_effect(sections: Sections) -> dict[str, Any]:
    """Return a condition's effective sections without keys that other values make idle.

    `muon_…` has no effect unless the optimizer is Muon, nor `decay_steps` unless the schedule is
    wsd.
    """
    pretrain = sections["pretrain"]
    # Keys without effect would make two conditions look different that train one network.
    idle = {
        key
        for key in pretrain
        if (key.startswith("muon_") and pretrain.get("optimizer") != "muon")
        or (key == "decay_steps" and pretrain.get("schedule") != "wsd")
    }
    kept = {key: value for key, value in pretrain.items() if key not in idle}
    return {**sections, "pretrain": kept}


def twins(base: Sections, conditions: Mapping[str, Sections]) -> dict[str, str]:
    """Return the conditions that share an earlier one's pretraining, with that one's name.

    They differ from it in fine-tuning only, so their pretrained networks are the same. Conditions
    a, b and c, of which c only fine-tunes b in another way, give {"c": "b"}.
    """
    found: dict[str, str] = {}
    # Name and sections of each condition that no earlier one equals.
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
