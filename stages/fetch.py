"""Fetch and verify one raw input; the only stage that may use the network.

Reads an installed wheel, local files, a folder of files or the hub, as the section `fetch` of
params.yaml says. Writes data/raw/INPUT. Costs seconds in the demo; at full size the hub's download
(28.5 GB of parquet for FineWeb-Edu sample-10BT). Passages are fetched in pieces, so a run after a
kill continues with the pieces that were not finished.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from common.errors import run_stage
from common.files import checksummed_directory, write_json, write_jsonl
from common.sections import read_section
from model.data.documents import Document
from model.data.items import count_repeated
from model.params.fetch import (
    ConversationsInputs,
    Gsm8kInput,
    HubFilesSource,
    PassagesInput,
    RanksInput,
    TaskInputs,
)
from model.runtime.resumable import scratch_directory
from model.sources.passage_files import check_sha256, count_blank, fetch_pieces, publish_pieces
from model.sources.raw_inputs import (
    check_count,
    fetch_conversations,
    fetch_gsm8k,
    fetch_ranks,
    fetch_task,
)


def tasks(output: Path, scratch: Path) -> str:
    """Write NAME.jsonl for each task: a line for each item."""
    counts = []
    for name, params in read_section("fetch.tasks", TaskInputs).items():
        items = fetch_task(name, params, scratch)
        write_jsonl(output / f"{name}.jsonl", [item.row() for item in items])
        repeated = count_repeated(items)
        counts.append(f"{len(items)} items of {name}")
        if repeated:
            counts[-1] += f", {repeated} of which repeat another's text"
    return "; ".join(counts) or "0 items of 0 tasks"


def ranks(output: Path, _: Path) -> str:
    """Write gpt2.tiktoken: the ranks of byte-pair merges."""
    content = fetch_ranks(read_section("fetch.ranks", RanksInput))
    (output / "gpt2.tiktoken").write_bytes(content)
    return f"{len(content.splitlines())} ranks"


def passages(output: Path, scratch: Path) -> str:
    """Write passages_*.parquet and index.json."""
    params = read_section("fetch.passages", PassagesInput)
    pieces = fetch_pieces(params, scratch, watched)
    pin = ""
    if isinstance(params.source, HubFilesSource):
        pin = f"; fetch.passages.source.sha256 is {check_sha256(pieces, params.source)}"
    count, characters = publish_pieces(pieces, output).total()
    blank = count_blank(pieces)
    left_out = f", and {blank} without text" if blank else ""
    check_count("fetch.passages", count, params.count, left_out)
    return f"{count} passages, {characters} characters{left_out}{pin}"


def gsm8k(output: Path, scratch: Path) -> str:
    """Write test.jsonl: a line for each question of GSM8K's test set."""
    questions = fetch_gsm8k(read_section("fetch.gsm8k", Gsm8kInput), scratch)
    write_jsonl(output / "test.jsonl", [question.model_dump() for question in questions])
    return f"{len(questions)} questions"


def conversations(output: Path, scratch: Path) -> str:
    """Write NAME.jsonl for each source, and left_out.json: how many had no text."""
    sources = read_section("fetch.conversations", ConversationsInputs)
    count, left_out = 0, {}
    for name, params in sources.items():
        found, left_out[name] = fetch_conversations(name, params, scratch)
        write_jsonl(output / f"{name}.jsonl", [conversation.model_dump() for conversation in found])
        count += len(found)
    if sources:
        write_json(output / "left_out.json", left_out)
    without = "".join(
        f", {number} of {name} left out without text" for name, number in left_out.items() if number
    )
    return f"{count} conversations of {len(sources)} sources{without}"


def watched(documents: Iterator[Document], label: str) -> Iterator[Document]:
    """Yield `documents` under a progress bar."""
    return iter(tqdm(documents, desc=label, unit="passage", disable=None))


# Each function writes its input into `output` and returns the words of the summary line.
INPUTS = {
    function.__name__: function for function in (tasks, ranks, passages, gsm8k, conversations)
}


def main() -> None:
    [name] = sys.argv[1:]
    path = Path("data/raw") / name
    with scratch_directory(path) as scratch, checksummed_directory(path) as output:
        summary = INPUTS[name](output, scratch)
    print(f"fetch {name}: {summary}")


if __name__ == "__main__":
    run_stage(main)
