"""Read the tables under "Faults" in docs/operations.md: tests look for the messages there."""

import re
from typing import NamedTuple

from repository import REPOSITORY


class Row(NamedTuple):
    fault: str
    seen: str  # the whole cell: messages stand between backticks
    messages: list[str]


def rows() -> list[Row]:
    """Return every row of the tables; raise ValueError for one without three cells."""
    found = []
    text = (REPOSITORY / "docs/operations.md").read_text()
    for line in text.split("\n## Faults\n")[1].split("\n## ")[0].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] != "cause":
            fault, seen, _ = cells
            found.append(Row(fault, seen, re.findall("`([^`]+)`", seen)))
    return found


def seen(fault: str, stage: str = r"\S+") -> list[str]:
    """Return the messages that a row quotes, as regular expressions."""
    [row] = [row for row in rows() if row.fault == fault]
    return [pattern(message, stage) for message in row.messages]


def pattern(message: str, stage: str = r"\S+") -> str:
    text = re.escape(message).replace("STAGE", stage).replace("FILE", r"\S+").replace("…", ".*")
    return re.sub(r"\bN\b", r"\\d+", text)
