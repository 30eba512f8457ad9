"""`make tables`: the tables of README.md and docs/ are those of plots/results.json, between markers.

    python -m tools.tables            writes them
    python -m tools.tables --check    changes nothing, and exits 1 where one is not the committed run's

A table stands between <!-- table NAME --> and <!-- end -->; `verdict` is the headline of plots/comparisons.json, `comparisons`
its table. Rows may be chosen: <!-- table NAME: text; text --> has those that contain one of the texts.
Reads plots/results.json and plots/comparisons.json. Writes README.md and docs/*.md.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from graph.usage import command_line
from model.files import write_bytes
from model.table import Cell, Table

RESULTS = Path("plots/results.json")
COMPARISONS = Path("plots/comparisons.json")
# The marker, its name and its rows; whatever stands between it and its end.
_MARKED = re.compile(r"(<!-- table (\w+)(?:: ([^\n]*?))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def main() -> None:
    parser = command_line("tools.tables", __doc__, changes=True)
    parser.add_argument("--check", action="store_true", help="change nothing, and exit with 1 where a table is of another run")
    only_check = parser.parse_args().check
    try:
        texts = read_texts()
        stale = [path for path in documents() if fill(path.read_text(), texts, path) != path.read_text()]
    except (OSError, KeyError, TypeError) as error:
        sys.exit(f"error: tables: {RESULTS.parent}/ has not what a run writes ({error!r}); run make repro")
    except ValueError as error:
        sys.exit(f"error: tables: {error}")
    if only_check:
        names = " ".join(map(str, stale))
        sys.exit(f"error: {names}: tables are not those of {RESULTS.parent}/; run make tables" if stale else 0)
    for path in stale:
        write_bytes(path, fill(path.read_text(), texts, path).encode())
        print(f"tables: {path}")


def documents() -> list[Path]:
    return [Path("README.md"), *sorted(Path("docs").glob("*.md"))]


def read_texts() -> dict[str, Table | str]:
    """Return what may stand between markers, by name."""
    compared = json.loads(COMPARISONS.read_text())
    tables = [*json.loads(RESULTS.read_text())["tables"], compared["table"]]
    return {"verdict": compared["sentences"][0] + "\n", **{table["name"]: _table(table) for table in tables}}


def fill(text: str, texts: dict[str, Table | str], path: Path) -> str:
    """Return a document with every marked table replaced; raises KeyError and ValueError naming the table and `path`."""

    def filled(match: re.Match) -> str:
        marker, name, rows, _, end = match.groups()
        if name not in texts:
            raise ValueError(f"{path}: there is no table {name}, but {', '.join(texts)}")
        found = texts[name]
        if isinstance(found, Table):
            found = _chosen(found, rows.split("; "), path).markdown() if rows else found.markdown()
        return marker + found + end

    if text.count("<!-- table ") != len(_MARKED.findall(text)) or text.count("<!-- end -->") != text.count("<!-- table "):
        raise ValueError(f"{path}: a marker <!-- table NAME --> without its <!-- end -->")
    return _MARKED.sub(filled, text)


def _chosen(table: Table, texts: list[str], path: Path) -> Table:
    lines = [" | ".join(cell.text for cell in row) for row in table.rows]
    for text in texts:
        if not any(text in line for line in lines):
            raise ValueError(f"{path}: table {table.name} has no row with {text!r}; edit the marker")
    return table._replace(rows=[row for row, line in zip(table.rows, lines, strict=True) if any(text in line for text in texts)])


def _table(found: dict[str, Any]) -> Table:
    rows = [[Cell(text, None) for text in row] for row in found["rows"]]
    return Table(found["name"], found["title"], found["unit"], found["columns"], rows, found["labels"])


if __name__ == "__main__":
    main()
