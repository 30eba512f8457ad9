"""A local dataset in the layout of FineWeb-Edu: parquet files, subsets in README's header."""

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*/*
- config_name: sample-10BT
  data_files:
  - split: train
    path: sample/10BT/*
---
# A dataset
"""
DOCUMENTS_PER_FILE = 60


def texts_of(file: int) -> list[str]:
    return [
        f"File {file}, document {number}: {'naïve text ' * (number % 7 + 1)}"
        for number in range(DOCUMENTS_PER_FILE)
    ]


def make_hub_folder(folder: Path, files: int) -> list[Path]:
    """Write the dataset; return the files of its sample in order."""
    paths = [folder / f"sample/10BT/{file:03d}_00000.parquet" for file in range(files)]
    paths[0].parent.mkdir(parents=True)
    (folder / "data/CC-MAIN-2013-20").mkdir(parents=True)
    (folder / "README.md").write_text(README)
    for file, path in enumerate(paths):
        texts = texts_of(file)
        table = pa.table(
            {
                "text": texts,
                "id": [f"<urn:{n}>" for n in range(len(texts))],
                "score": [3.5] * len(texts),
            }
        )
        pq.write_table(table, path, row_group_size=25)
    pq.write_table(
        pa.table({"text": ["of another subset"], "id": ["x"], "score": [0.0]}),
        folder / "data/CC-MAIN-2013-20/a.parquet",
    )
    return paths


def hub_source(folder: Path, **changes) -> dict:
    source = {
        "kind": "hub",
        "dataset": str(folder),
        "subset": "sample-10BT",
        "split": "train",
        "revision": "0" * 40,
        "sha256": None,
    }
    return {**source, **changes}


def listing_of(folder: Path, paths: list[Path]) -> str:
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder)}\n"
        for path in paths
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
