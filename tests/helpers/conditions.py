"""Conditions of params.yaml, and params files with other conditions."""

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
# The pattern in CONTRIBUTING.md: each digit is a token of its own.
DIGITS = PATTERN.replace(r" ?\p{N}++", r"\p{N}")
# Each condition's own values: those of params.yaml, and those that tests add.
OWN: dict[str, dict[str, Any]] = {
    "baseline": {},
    "mul_tokens": {"tokenize": {"mul_facts": True}},
    "digits": {"tokenize": {"pattern": DIGITS}},
}

# The conditions of README that are run.
ABLATIONS = ("fast", "wide", "muon")


def conditions(**own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the section `conditions`, each with all four sections."""
    return {name: {**{section: {} for section in SECTIONS}, **each} for name, each in own.items()}


def named(*names: str) -> dict[str, dict[str, Any]]:
    """Return the section `conditions` with these names; names not in OWN have no values."""
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
    """Return the text of README's conditions with these names, or of all."""
    [block] = re.findall(r"^```yaml\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    lines = block.splitlines(keepends=True)
    return "".join(line for line in lines if not names or line.split(":")[0].strip() in names)


def contributed() -> str:
    """Return the text of CONTRIBUTING's condition."""
    [block] = blocks("A condition", "yaml")
    return block


def with_more(text: str, block: str) -> str:
    """Return the text of a params file with a block of conditions after the others."""
    found, count = re.subn(r"^\nseeds:", lambda _: f"{block}\nseeds:", text, flags=re.MULTILINE)
    assert count == 1, "no seeds"
    return found
