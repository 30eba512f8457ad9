"""Generated passages, the shards that hold them, and a benchmark item."""

import random
from collections import Counter
from pathlib import Path

from common.files import json_bytes, write_checksums
from model.data.documents import Document, DocumentWriter, PassagesIndex, document_shards
from model.data.items import Item

ITEM = Item(
    ind=0,
    activity_label="Roofing",
    ctx_a="A man is sitting on a roof and he",
    ctx_b="",
    ctx="A man is sitting on a roof and he",
    endings=["starts pulling up the old shingles by hand", "sings", "falls", "waits for the rain"],
    label=0,
    source_id="roof",
)


def passages(count: int) -> list[Document]:
    generator = random.Random(1)
    words = [
        "time",
        "river",
        "stone",
        "light",
        "under",
        "grows",
        "quiet",
        "seven",
        "never",
        "house",
    ]
    return [
        Document(f"{number} " + " ".join(generator.choices(words, k=40)), "text")
        for number in range(count)
    ]


def write_shards(directory: Path, raw: list[list[Document]]) -> list[Path]:
    """Write each list of `raw` as one shard, as fetch leaves them."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, documents in enumerate(filter(None, raw)):
        with DocumentWriter(directory, "one", 10**9) as writer:
            for document in documents:
                writer.append(document)
        (directory / "one_00000.parquet").rename(directory / f"passages_{number:05d}.parquet")
    everything = [document for documents in raw for document in documents]
    characters: Counter = Counter()
    for text, source in everything:
        characters[source] += len(text)
    index = PassagesIndex(
        characters=dict(characters), documents=dict(Counter(source for _, source in everything))
    )
    (directory / "index.json").write_bytes(json_bytes(index.model_dump()))
    write_checksums(directory)
    return document_shards(directory, "passages")
