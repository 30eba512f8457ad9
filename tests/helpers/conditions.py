"""Conditions as params.yaml has them, and files in which others stand in their place."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from contributing import blocks
from repository import REPOSITORY

from model.tokens.bpe import PATTERN

README = (REPOSITORY / "README.md").read_text()
SECTIONS = ("tokenize", "model", "pretrain", "sft")
# The pattern of CONTRIBUTING.md: a digit is one token, whatever stands before it.
DIGITS = PATTERN.replace(r" ?\p{N}++", r"\p{N}")
# What each has of its own; those of params.yaml, and what tests add.
OWN: dict[str, dict[str, Any]] = {
    "baseline": {},
    "mul_tokens": {"tokenize": {"mul_facts": True}},
    "digits": {"tokenize": {"pattern": DIGITS}},
}

# Those of README's that are run.
ABLATIONS = ("fast", "wide", "muon")


def conditions(**own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the section `conditions`, each with all four sections."""
    return {name: {**{section: {} for section in SECTIONS}, **each} for name, each in own.items()}


def named(*names: str) -> dict[str, dict[str, Any]]:
    """Return the section `conditions` with these of OWN; others have nothing of their own."""
    return conditions(**{name: OWN.get(name, {}) for name in names})


def with_conditions(text: str, section: Mapping[str, Any]) -> str:
    """Return the text of a params file with `section` as its conditions."""
    block = yaml.safe_dump({"conditions": dict(section)}, sort_keys=False, width=1000)
    found, count = re.subn(r"^conditions:.*\n(?: .*\n)*", lambda _: block, text, flags=re.MULTILINE)
    assert count == 1, "no conditions"
    return found


def set_conditions(path: Path, section: Mapping[str, Any]) -> None:
    path.write_text(with_conditions(path.read_text(), section))


def shown(*names: str) -> str:
    """Return README's conditions of these names, or all, as it writes them."""
    [block] = re.findall(r"^```yaml\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    lines = block.splitlines(keepends=True)
    return "".join(line for line in lines if not names or line.split(":")[0].strip() in names)


def contributed() -> str:
    """Return CONTRIBUTING's condition as it writes it."""
    [block] = blocks("A condition", "yaml")
    return block


def with_more(text: str, block: str) -> str:
    """Return the text of a params file with a block of conditions after the others."""
    found, count = re.subn(r"^\nseeds:", lambda _: f"{block}\nseeds:", text, flags=re.MULTILINE)
    assert count == 1, "no seeds"
    return found
