"""`make tables`: the tables of README.md and docs/ are those of plots/results.json, between
markers.

    python -m tools.generated.doc_tables            writes them
    python -m tools.generated.doc_tables --check    exits 1 where a table is of no run

`make repro` on another processor rewrites plots/ with other figures. --check then compares the
documents with the plots/ of git's index, says so in one line, and exits 0 where they agree. A table
stands between <!-- table NAME --> and <!-- end -->; `verdict` is the headline of
plots/comparisons.json, `comparisons` its table. `seeds_verdict` and `seeds_comparisons` are those
of docs/seeds/comparisons.json, which profiles/seeds.yaml made, and `gpu` is that of
benchmarks/gpu.json, which `make gpu` writes. Rows may be chosen: <!-- table NAME:
text; text --> has those that contain one of the texts. Reads plots/results.json and
plots/comparisons.json, on disk and in git's index. Writes README.md and docs/*.md.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from common.files import write_bytes
from model.results.markdown_table import Cell, Table
from pipeline.declared.file_trees import GitTree, Tree, WorkingTree
from pipeline.terminal.command_lines import command_line
from tools.generated.gpu_table import gpu_table

RESULTS = "plots/results.json"
COMPARISONS = "plots/comparisons.json"
# A copy of the comparisons that profiles/seeds.yaml made; its plots/ are not this tree's.
OF_SEEDS = "docs/seeds/comparisons.json"
# What `make gpu` measured, where a GPU was at hand.
OF_GPU = "benchmarks/gpu.json"
_NO_SEEDS = "This run is not committed yet.\n"
# The marker, its name and its rows; whatever stands between it and its end.
_MARKED = re.compile(r"(<!-- table (\w+)(?:: ([^\n]*?))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def main() -> None:
    parser = command_line("tools.generated.doc_tables", __doc__, changes=True)
    parser.add_argument(
        "--check",
        action="store_true",
        help="change nothing, and exit with 1 where a table is of another run",
    )
    tree = WorkingTree(Path.cwd())
    if parser.parse_args().check:
        problem, note = compared(tree)
        if problem:
            sys.exit(f"error: {problem}")
        print(note, end="\n" if note else "")
        return
    try:
        texts = read_texts(tree)
        for path in stale_documents(tree, texts):
            write_bytes(Path(path), fill(tree.read(path).decode(), texts, path).encode())
            print(f"tables: {path}")
    except _FAULTS as error:
        sys.exit(f"error: {_fault(error)}")


def notes(tree: Tree) -> list[str]:
    """Return what `make check` prints of the tables: nothing, or one line. `make lint` fails where
    it is a problem.
    """
    if not isinstance(tree, WorkingTree) or not tree.has("README.md"):
        return []
    return [line for line in compared(tree) if line]


def compared(tree: WorkingTree) -> tuple[str, str]:
    """Return a problem, if a table is of no run, and a note, if the tables are of the committed run
    and plots/ is not.
    """
    try:
        stale = stale_documents(tree, read_texts(tree))
        problem = f"{' '.join(stale)}: tables are not those of plots/; run make tables"
    except _FAULTS as error:
        stale, problem = ["?"], _fault(error)
    if not stale:
        return "", ""
    if not _are_of_the_committed_run(tree):
        return problem, ""
    return (
        "",
        (
            "tables: those of the committed run; plots/ has another run's figures, "
            "which make tables would write"
        ),
    )


_FAULTS = (OSError, KeyError, TypeError, ValueError)


def _fault(error: Exception) -> str:
    if isinstance(error, ValueError):
        return f"tables: {error}"
    return f"tables: plots/ has not what a run writes ({error!r}); run make repro"


def documents(tree: Tree) -> list[str]:
    found = [path for path in tree.files("docs") if path.endswith(".md") and path.count("/") == 1]
    return ["README.md", *found]


def stale_documents(tree: Tree, texts: dict[str, Table | str]) -> list[str]:
    """Return the documents of `tree` whose tables are not those of `texts`; raises ValueError
    naming a wrong marker.
    """
    contents = {path: tree.read(path).decode() for path in documents(tree)}
    return [path for path, content in contents.items() if fill(content, texts, path) != content]


def _are_of_the_committed_run(tree: WorkingTree) -> bool:
    """Whether every document of `tree` has the tables that the plots/ of git's index give."""
    try:
        return stale_documents(tree, read_texts(GitTree(tree.root))) == []
    except (OSError, KeyError, TypeError, ValueError):
        return False  # no git, or no such plots/ in it


def read_texts(tree: Tree) -> dict[str, Table | str]:
    """Return what may stand between markers, by name: the tables in the plots/ of `tree`."""
    compared = json.loads(tree.read(COMPARISONS))
    tables = [*json.loads(tree.read(RESULTS))["tables"], compared["table"]]
    texts: dict[str, Table | str] = {
        "verdict": compared["sentences"][0] + "\n",
        **{table["name"]: _table(table) for table in tables},
        "seeds_verdict": _NO_SEEDS,
        "seeds_comparisons": _NO_SEEDS,
    }
    texts["gpu"] = gpu_table(json.loads(tree.read(OF_GPU)) if tree.has(OF_GPU) else {})
    if tree.has(OF_SEEDS):
        found = json.loads(tree.read(OF_SEEDS))
        said = "".join(f"- {line}\n" for line in found["sentences"])
        texts |= {"seeds_verdict": said, "seeds_comparisons": _table(found["table"])}
    return texts


def fill(text: str, texts: dict[str, Table | str], path: str) -> str:
    """Return a document with every marked table replaced; raises KeyError and ValueError naming the
    table and `path`.
    """

    def filled(match: re.Match[str]) -> str:
        marker, name, rows, _, end = (str(group or "") for group in match.groups())
        if name not in texts:
            raise ValueError(f"{path}: there is no table {name}, but {', '.join(texts)}")
        found = texts[name]
        if isinstance(found, Table):
            found = _chosen(found, rows.split("; "), path).markdown() if rows else found.markdown()
        return marker + found + end

    if text.count("<!-- table ") != len(_MARKED.findall(text)) or text.count(
        "<!-- end -->"
    ) != text.count("<!-- table "):
        raise ValueError(f"{path}: a marker <!-- table NAME --> without its <!-- end -->")
    return _MARKED.sub(filled, text)


def _chosen(table: Table, texts: list[str], path: str) -> Table:
    lines = [" | ".join(cell.text for cell in row) for row in table.rows]
    for text in texts:
        if not any(text in line for line in lines):
            raise ValueError(
                f"{path}: table {table.name} has no row with {text!r}; edit the marker"
            )
    return table._replace(
        rows=[
            row
            for row, line in zip(table.rows, lines, strict=True)
            if any(text in line for text in texts)
        ]
    )


def _table(found: dict[str, Any]) -> Table:
    rows = [[Cell(text, None) for text in row] for row in found["rows"]]
    return Table(
        found["name"], found["title"], found["unit"], found["columns"], rows, found["labels"]
    )


if __name__ == "__main__":
    main()
