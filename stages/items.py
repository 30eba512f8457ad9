"""Select the items that every checkpoint answers, for each task of model/tasks/table.py.

Reads data/raw/hellaswag and the validation split of data/corpus. Writes data/items/NAME.jsonl, a
file for each module of model/tasks/item_selection/ that the table names.
Costs a second at any size.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from common.errors import run_stage
from common.files import checksummed_directory, read_jsonl, write_jsonl
from common.sections import read_section
from model.data.documents import Document, read_split
from model.data.items import Item, check_sources, read_items
from model.data.source_names import DRILL_SOURCE
from model.params.items import ItemsParams
from model.tasks.item_selection import Sources
from model.tasks.table import TASKS

HELLASWAG = Path("data/raw/hellaswag/items.jsonl")
CORPUS = Path("data/corpus")
OUTPUT = Path("data/items")


def main() -> None:
    params = read_section("items", ItemsParams)
    selected: dict[str, list[Item]] = {}
    for task in TASKS:
        if task.items not in selected:
            module = import_module(f"model.tasks.item_selection.{task.items}")
            selected[task.items] = module.select(Sources(_hellaswag, _held_out), params)
            check_sources(f"items: {task.items}", selected[task.items])
    with checksummed_directory(OUTPUT) as output:
        for name, items in selected.items():
            write_jsonl(output / f"{name}.jsonl", [item.model_dump() for item in items])
    print("items: " + ", ".join(f"{len(items)} of {name}" for name, items in selected.items()))


def _hellaswag() -> list[Item]:
    return read_items(HELLASWAG, read_jsonl(HELLASWAG))


def _held_out() -> Iterator[Document]:
    """Yield the held-out documents of natural text."""
    for document in read_split(CORPUS, "val"):
        if document.source != DRILL_SOURCE:
            yield document


if __name__ == "__main__":
    run_stage(main)
