"""Choose the items that every checkpoint answers: a seeded sample of HellaSwag, and continuations of held-out text.

Reads data/raw/hellaswag and the validation split of data/corpus. Writes data/items/{hellaswag,continuation}.jsonl.
Costs a second at any size.
"""

from pathlib import Path

from common.errors import run_stage
from common.files import checksummed_directory, read_jsonl, write_jsonl
from common.sections import read_section
from model.data.documents import read_split
from model.data.item_selection import continuation_items, sample_items
from model.data.items import check_sources, read_items
from model.data.source_names import DRILL_SOURCE
from model.params.items import ItemsParams

HELLASWAG = Path("data/raw/hellaswag/items.jsonl")
CORPUS = Path("data/corpus")
OUTPUT = Path("data/items")


def main() -> None:
    params = read_section("items", ItemsParams)
    hellaswag = sample_items(
        read_items(HELLASWAG, read_jsonl(HELLASWAG)), params.hellaswag_count, params.seed
    )
    passages = (
        document for document in read_split(CORPUS, "val") if document.source != DRILL_SOURCE
    )
    continuation = continuation_items(passages, params)
    check_sources("params.yaml: items.hellaswag_count", hellaswag)
    check_sources("params.yaml: items.continuation_count", continuation)
    with checksummed_directory(OUTPUT) as output:
        for name, items in (("hellaswag", hellaswag), ("continuation", continuation)):
            write_jsonl(output / f"{name}.jsonl", [item.model_dump() for item in items])
    print(f"items: {len(hellaswag)} of HellaSwag, {len(continuation)} continuations")


if __name__ == "__main__":
    run_stage(main)
