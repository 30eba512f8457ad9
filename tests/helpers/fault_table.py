"""Read the table of docs/faults.md: tests look for the messages that it quotes."""

import re
from typing import NamedTuple

from repository import REPOSITORY


class Row(NamedTuple):
    fault: str
    messages: list[str]
    tests: list[str]


def rows() -> list[Row]:
    found = []
    for line in (REPOSITORY / "docs/faults.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] != "fault":
            fault, seen, _, _, tests = cells
            found.append(
                Row(fault, re.findall("`([^`]+)`", seen), re.findall(r"test_\w+\.py", tests))
            )
    return found


def seen(fault: str, stage: str = r"\S+") -> list[str]:
    """Return the messages that a row quotes, as regular expressions."""
    [row] = [row for row in rows() if row.fault == fault]
    return [pattern(message, stage) for message in row.messages]


def pattern(message: str, stage: str = r"\S+") -> str:
    text = re.escape(message).replace("STAGE", stage).replace("FILE", r"\S+").replace("…", ".*")
    return re.sub(r"\bN\b", r"\\d+", text)
