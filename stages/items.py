"""Select the items that every checkpoint answers, for each task of params.yaml.

Reads data/raw/tasks and the validation split of data/corpus. Writes data/items/NAME.jsonl for each
task, and data/items/tasks.json, which lists tasks and wordings for `evaluate`. Costs a second at
any size.
"""

from collections.abc import Iterator
from pathlib import Path

from common.errors import run_stage
from common.files import checksummed_directory, write_json, write_jsonl
from common.sections import read_section
from model.data.documents import Document, read_split
from model.data.items import Item, check_sources, read_stored_items
from model.params.items import ItemsParams
from model.params.source_names import DRILL_SOURCE
from model.params.tasks import CONTINUATION, Tasks
from model.tasks.item_selection.continuation import continuation_items
from model.tasks.item_selection.sample import sample_items
from model.tasks.listing import listed
from model.tasks.table import LISTED

RAW = Path("data/raw/tasks")
CORPUS = Path("data/corpus")
OUTPUT = Path("data/items")


def main() -> None:
    params = read_section("items", ItemsParams)
    tasks = read_section("tasks", Tasks)
    selected: dict[str, list[Item]] = {}
    for name, task in tasks.items():
        if name == CONTINUATION:
            selected[name] = continuation_items(_held_out(), task.asked, params)
        else:
            every = read_stored_items(RAW / f"{name}.jsonl")
            key = f"tasks.{name}.asked"
            selected[name] = sample_items(every, task.asked, params.seed, key)
        check_sources(f"items: {name}", selected[name])
    with checksummed_directory(OUTPUT) as output:
        for name, items in selected.items():
            write_jsonl(output / f"{name}.jsonl", [item.row() for item in items])
        write_json(output / LISTED, {"tasks": [task._asdict() for task in listed(tasks)]})
    print("items: " + ", ".join(f"{len(items)} of {name}" for name, items in selected.items()))


def _held_out() -> Iterator[Document]:
    """Yield the held-out documents of natural text."""
    for document in read_split(CORPUS, "val"):
        if document.source != DRILL_SOURCE:
            yield document


if __name__ == "__main__":
    run_stage(main)
