"""Measure memory and time of reading training rows from a billion documents.

    python -m benchmarks.scale
        10⁹ documents in 20,000 shards, 10¹² tokens; one minute, 0.2 GB of disk
    python -m benchmarks.scale --shards 200 --documents 50000

All shards are hard links to the files of one shard. The code of pretraining reads the shards, their
index and their checksums. One process opens the split, reads rows of two epochs at the beginning,
in the middle and at the end, and counts original bytes there, as a resumed run does. Prints seconds
and the peak of its memory; exits with 1 above 2 GiB. Linux only.
"""

import argparse
import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from common.files import CHECKSUMS, json_bytes, sha256_file
from model.pretraining.training_rows import TrainingRows
from model.tokens.facts import EXPRESSION_FORMS
from model.tokens.shards import Expressions, Index, ShardEntry, TokenSplit, shard_paths, write_shard

REPOSITORY = Path(__file__).resolve().parent.parent
LIMIT_BYTES = 2 * 2**30
CONTEXT = 1024
MEAN_TOKENS = 1000
# Batches of 512 rows; together they are more than one block of documents.
_BATCHES = 600
# Hard links of one file; ext4 allows 65,000.
_NAMES = 30_000


def make_split(directory: Path, shards: int, documents: int, mean_tokens: int) -> None:
    """Write `shards` training shards of `documents` each, all with the same content.

    Documents have from 1 to 2 × `mean_tokens` - 1 tokens.
    """
    directory.mkdir(parents=True)
    lengths = np.random.default_rng(0).integers(1, 2 * mean_tokens, documents)
    table = np.stack([lengths, 4 * lengths, np.zeros_like(lengths)], axis=1)
    ids = np.arange(lengths.sum()) % 50_000
    lines = []
    for first in range(0, shards, _NAMES):
        write_shard(directory, "train", first, [ids], table)
        digests = [sha256_file(path) for path in shard_paths(directory, "train", first)]
        for number in range(first, min(first + _NAMES, shards)):
            paths = shard_paths(directory, "train", number)
            for path, digest, source in zip(
                paths, digests, shard_paths(directory, "train", first), strict=True
            ):
                if number > first:
                    os.link(source, path)
                lines.append(f"{digest}  {path.name}\n")
    entry = ShardEntry(
        documents=documents,
        documents_sha256="0" * 64,
        expressions={form: Expressions(found=0, changed=0) for form in EXPRESSION_FORMS},
        mul_fact_tokens=0,
        original_bytes=int(4 * lengths.sum()),
        plain_tokens=int(lengths.sum()),
        tokens=int(lengths.sum()),
    )
    index = Index(
        condition="baseline",
        sources=["text"],
        splits={"train": [entry] * shards},
        vocab_size=50_257,
    )
    (directory / "index.json").write_bytes(json_bytes(index.model_dump()))
    lines.append(f"{sha256_file(directory / 'index.json')}  index.json\n")
    (directory / CHECKSUMS).write_text("".join(sorted(lines)), encoding="utf-8")


def read_everywhere(directory: Path) -> None:
    """Read rows and count bytes in many places of two epochs; print how long it took."""
    started = time.perf_counter()
    split = TokenSplit(directory, "train")
    rows = TrainingRows(split, CONTEXT, seed=1337)
    tokens = int(split.tokens.sum())
    print(
        f"{split.documents.sum():,} documents, {tokens:,} tokens, {len(split.documents):,} shards: "
        f"opened in {time.perf_counter() - started:.1f} s, {memory()}"
    )
    for part in (0, 0.25, 0.5, 0.75, 0.999, 1.5):
        first = int(part * tokens) // CONTEXT
        started = time.perf_counter()
        rows.rows(first, 1)
        found = time.perf_counter() - started
        for batch in range(_BATCHES):
            rows.rows(first + 512 * batch, 512)
        rows.original_bytes(first * CONTEXT)
        per_row = (time.perf_counter() - started - found) / (_BATCHES * 512)
        print(
            f"row {first:>13,}: found in {found:.1f} s, then {1e6 * per_row:.0f} µs a row, "
            f"{memory()}",
            flush=True,
        )


def memory() -> str:
    """Return in words the peak of this process's memory with mapped files, and without them."""
    status = Path("/proc/self/status").read_text()
    own = int(re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)[1]) / 2**20
    return f"peak {peak_gibibytes():.2f} GiB, {own:.2f} without mapped files"


def peak_gibibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=20_000)
    parser.add_argument("--documents", type=int, default=50_000, help="documents in each shard")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".benchmark.") as folder:
        directory = Path(folder) / "tokens"
        writer = os.fork()  # so that writing does not count in this process's memory
        if writer == 0:
            make_split(directory, options.shards, options.documents, MEAN_TOKENS)
            os._exit(0)
        if os.waitpid(writer, 0)[1]:
            sys.exit("error: the shards could not be written")
        read_everywhere(directory)
    if peak_gibibytes() * 2**30 > LIMIT_BYTES:
        sys.exit(f"error: the peak is above {LIMIT_BYTES / 2**30:.0f} GiB")


if __name__ == "__main__":
    main()
