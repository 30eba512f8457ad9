"""Tables of results as Markdown and JSON, and the CSV files that charts draw."""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


class Cell(NamedTuple):
    """The text a reader sees, and its value: a number, or a rate with its interval."""

    text: str
    value: Any


class Table(NamedTuple):
    """`name` is its key in a file of tables; the first `labels` columns are words, not numbers."""

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
    """Return tables of the same columns as one; the first column has their titles and units."""
    [columns] = {tuple(table.columns) for table in tables}
    rows = [[words(f"{table.title}, {table.unit}"), *row] for table in tables for row in table.rows]
    return Table(name, title, "brackets: 95 % intervals", ["Figure", *columns], rows, labels=1)


def csv_bytes(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> bytes:
    """Return rows of numbers and texts as CSV; None is an empty field."""
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
    """Return the heading of the seed column, or none if there is one seed."""
    return ["Seed"] if len(seeds) > 1 else []


def seed_cell(seed: int, seeds: list[int]) -> list[Cell]:
    return [Cell(str(seed), seed)] if len(seeds) > 1 else []


def over_seeds(labels: list[Cell], rows: list[list[Cell]]) -> list[list[Cell]]:
    """Return the row of mean and standard deviation over seeds, or none if there is one seed.

    `rows` has a row for each seed, of the conditions' figures; `labels` are the cells before them.
    """
    if len(rows) < 2:
        return []
    cells = []
    for column in zip(*rows, strict=True):
        values = [
            cell.value["rate"] if isinstance(cell.value, dict) else cell.value for cell in column
        ]
        mean = fmean(values)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        decimals = 1 if all(isinstance(value, int) for value in values) else 4
        cells.append(Cell(f"{mean:,.{decimals}f} ± {spread:,.{decimals}f}", [mean, spread]))
    return [[*labels, words("mean ± sd"), *cells]]


def _line(texts: list[str]) -> str:
    return f"| {' | '.join(map(_escaped, texts))} |"


def _escaped(text: str) -> str:
    """Return `text` as one cell of Markdown: no line break, no column, no HTML tag."""
    return _TAG.sub("&lt;", " ".join(text.splitlines())).replace("|", "\\|")
