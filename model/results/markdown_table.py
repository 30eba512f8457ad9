"""A table of results, as Markdown for people and as JSON for programs; and as CSV what charts draw."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


class Cell(NamedTuple):
    """What a reader sees, and the value behind it: a number, or a rate's object with its interval."""

    text: str
    value: Any


class Table(NamedTuple):
    """`name` is the table's in a file of tables; the first `labels` columns are words, the others numbers."""

    name: str
    title: str
    unit: str
    columns: list[str]
    rows: list[list[Cell]]
    labels: int = 0

    def markdown(self) -> str:
        rules = ["---" if number < self.labels else "---:" for number in range(len(self.columns))]
        lines = [f"**{self.title}** ({self.unit})\n", _line(self.columns), f"|{'|'.join(rules)}|"]
        return (
            "\n".join([*lines, *(_line([cell.text for cell in row]) for row in self.rows)]) + "\n"
        )

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "columns": self.columns,
            "labels": self.labels,
            "rows": [[cell.text for cell in row] for row in self.rows],
            "values": [[cell.value for cell in row] for row in self.rows],
        }


def together(name: str, title: str, tables: list[Table]) -> Table:
    """Return tables of the same columns as one, with their titles and units in a column of its own."""
    [columns] = {tuple(table.columns) for table in tables}
    rows = [[words(f"{table.title}, {table.unit}"), *row] for table in tables for row in table.rows]
    return Table(name, title, "brackets: 95 % intervals", ["Figure", *columns], rows, labels=1)


def csv_bytes(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> bytes:
    """Return rows of numbers and texts as CSV, for a chart; None is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode()


def words(text: str) -> Cell:
    return Cell(text, text)


def count(number: int) -> Cell:
    return Cell(f"{number:,}", number)


def headings(conditions: list[str]) -> list[str]:
    return [condition.capitalize() for condition in conditions]


def seed_heading(seeds: list[int]) -> list[str]:
    """Return the heading of the column that tells seeds apart, which one seed does not need."""
    return ["Seed"] if len(seeds) > 1 else []


def seed_cell(seed: int, seeds: list[int]) -> list[Cell]:
    return [Cell(str(seed), seed)] if len(seeds) > 1 else []


def _line(texts: list[str]) -> str:
    return f"| {' | '.join(map(_escaped, texts))} |"


def _escaped(text: str) -> str:
    """Return `text` as one cell of Markdown: nothing in it ends the cell or the line, or begins a tag."""
    return _TAG.sub("&lt;", " ".join(text.splitlines())).replace("|", "\\|")
