"""Tables of results as Markdown and JSON, and CSV files for charts."""

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, NamedTuple

# A "<" that would begin an HTML tag, a comment or a closing tag; "p < 0.001" stays as it is.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")


class Cell(NamedTuple):
    """A cell's text, and its value: a number, several numbers, or a rate with its interval."""

    text: str
    value: Any


class Table(NamedTuple):
    """One table of results."""

    # Its key in a file of tables.
    name: str
    title: str
    # What the numbers mean, in brackets behind the title.
    unit: str
    columns: list[str]
    rows: list[list[Cell]]
    # How many columns at the left hold words; they are aligned left, the others right.
    labels: int = 0

    def markdown(self) -> str:
        """Return the table as GitHub Markdown, title first."""
        rules = ["---" if number < self.labels else "---:" for number in range(len(self.columns))]
        lines = [f"**{self.title}** ({self.unit})\n", _line(self.columns), f"|{'|'.join(rules)}|"]
        return (
            "\n".join([*lines, *(_line([cell.text for cell in row]) for row in self.rows)]) + "\n"
        )

    def json(self) -> dict[str, Any]:
        """Return the table for a JSON file; `rows` are the texts, `values` the numbers."""
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
    """Join tables of the same columns into one; a new first column has their titles and units."""
    # Unpacking raises ValueError if the columns differ.
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
    """Return a cell of text."""
    return Cell(text, text)


def count(number: int) -> Cell:
    """Return a cell of a count: 10042 is shown as "10,042"."""
    return Cell(f"{number:,}", number)


def headings(conditions: list[str]) -> list[str]:
    """Return a column heading for each condition."""
    return [condition.capitalize() for condition in conditions]


def seed_heading(seeds: list[int]) -> list[str]:
    """Return the heading of the seed column; with one seed there is no such column."""
    return ["Seed"] if len(seeds) > 1 else []


def seed_cell(seed: int, seeds: list[int]) -> list[Cell]:
    """Return the cell of the seed column; with one seed there is no such column."""
    return [Cell(str(seed), seed)] if len(seeds) > 1 else []


def over_seeds(labels: list[Cell], rows: list[list[Cell]]) -> list[list[Cell]]:
    """Return the row of means and standard deviations over seeds; with one seed no row.

    `rows` has for each seed a cell for each condition. `labels` are the cells at the row's left.
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
        # Means of counts have one decimal, those of rates and losses four.
        decimals = 1 if all(isinstance(value, int) for value in values) else 4
        cells.append(Cell(f"{mean:,.{decimals}f} ± {spread:,.{decimals}f}", [mean, spread]))
    return [[*labels, words("mean ± sd"), *cells]]


def _line(texts: list[str]) -> str:
    return f"| {' | '.join(map(_escaped, texts))} |"


def _escaped(text: str) -> str:
    """Return `text` as one cell of Markdown, without line breaks, column bars and HTML tags."""
    return _TAG.sub("&lt;", " ".join(text.splitlines())).replace("|", "\\|")
