"""Read the sections of CONTRIBUTING.md and their commands."""

import re

from repository import REPOSITORY

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
SECTIONS = {part.partition("\n")[0]: part for part in TEXT.split("\n## ")[1:]}


def blocks(title: str, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", SECTIONS[title], flags=re.MULTILINE | re.DOTALL
    )


def commands(title: str) -> list[str]:
    """Return a section's commands without `make repro`: the edits of all sections run together."""
    found = "".join(blocks(title, "console")).split("$ ")[1:]
    assert found
    return [command for command in found if command != "make repro\n"]
