"""Tokenize a corpus to shards, one token shard for each parquet shard, on all cores.

The output depends on the corpus and the tokenizer alone, not on the number of workers: each turns one whole shard, and results
are taken in order. A finished shard outlives a kill.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from common.errors import PipelineError
from common.files import json_bytes
from common.sections import read_json
from model.data.documents import document_shards, read_documents
from model.runtime.resumable import piece, publish
from model.runtime.worker_pool import in_order
from model.tokens.bpe import EncodedDocument, Tokenizer
from model.tokens.facts import EXPRESSION_FORMS
from model.tokens.shards import (
    ORIGINAL_BYTES,
    TOKENS,
    Expressions,
    ShardEntry,
    shard_paths,
    write_shard,
)

ENTRY = "entry.json"


class Task(NamedTuple):
    """What every worker has. `directory` is the corpus, `scratch` where finished shards are kept."""

    directory: Path
    sources: list[str]
    tokenizer: Tokenizer
    scratch: Path


class Job(NamedTuple):
    """One shard to tokenize, up to `plain_tokens` of it where that is no None."""

    split: str
    number: int
    plain_tokens: int | None = None


def tokenize_split(
    task: Task,
    split: str,
    output: Path,
    condition: str,
    target_tokens: int | None,
    processes: int | None = None,
) -> list[ShardEntry]:
    """Write one split's shards to `output`; return the entries of the index.

    `target_tokens` cuts the split to exactly so many tokens of the plain vocabulary: every condition has the same documents,
    and of the last one the same piece, as text without facts. Raises PipelineError where the corpus has fewer.
    """
    count = len(document_shards(task.directory, split))
    jobs = [Job(split, number) for number in range(count)]
    finished: list[Path] = []
    entries: list[ShardEntry] = []
    left = target_tokens
    results = _with_progress(
        in_order(tokenize_shard, task, jobs, processes), count, f"tokenize {condition} {split}"
    )
    with closing(results):
        for job, (entry, directory) in zip(jobs, results, strict=False):
            if left is not None and entry.plain_tokens > left:
                entry, directory = tokenize_shard(task, job._replace(plain_tokens=left))
            entries.append(entry)
            finished.append(directory)
            left = None if left is None else left - entry.plain_tokens
            if left == 0:
                break
    if target_tokens is not None and left:
        raise PipelineError(
            f"tokenize: the training split has {target_tokens - left} tokens of the plain vocabulary, corpus.target_tokens asks "
            f"for {target_tokens}; fetch more text or lower it"
        )
    for number, directory in enumerate(finished):
        for source, target in zip(
            shard_paths(directory, split, 0), shard_paths(output, split, number), strict=True
        ):
            publish(source, target)
    return entries


def tokenize_shard(task: Task, job: Job) -> tuple[ShardEntry, Path]:
    """Return the shard's entry and the directory where it waits as shard 0."""
    limit = "" if job.plain_tokens is None else f"_{job.plain_tokens}"
    directory = piece(
        task.scratch, f"{job.split}_{job.number:05d}{limit}", partial(_make, task, job)
    )
    return read_json(directory / ENTRY, ShardEntry), directory


def _make(task: Task, job: Job, directory: Path) -> None:
    tokenizer, left = task.tokenizer, job.plain_tokens
    number_of = {source: number for number, source in enumerate(task.sources)}
    counts: Counter[tuple[str, str]] = Counter()
    digest = hashlib.sha256()
    documents, rows = [], []
    totals: Counter[str] = Counter()
    for text, source in read_documents(document_shards(task.directory, job.split)[job.number]):
        if left == 0:
            break
        encoded = tokenizer.encode_document(text)
        content = text.encode()
        if left is not None and encoded.plain_tokens >= left:  # end of text is one more
            plain = tokenizer.encode_plain(text)[: left - 1]
            encoded, content = (
                EncodedDocument(plain, len(plain), 0, Counter()),
                tokenizer.decode_bytes(plain),
            )
        left = None if left is None else left - encoded.plain_tokens - 1
        counts.update(encoded.expressions)
        digest.update(len(content).to_bytes(8, "big") + content)
        documents.append(
            np.concatenate([[tokenizer.end_of_text], encoded.tokens]).astype(np.uint16)
        )
        rows.append((len(encoded.tokens) + 1, len(content), number_of[source]))
        totals.update(mul_fact_tokens=encoded.facts, plain_tokens=encoded.plain_tokens + 1)
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    write_shard(directory, job.split, 0, documents, table)
    entry = ShardEntry(
        documents=len(documents),
        documents_sha256=digest.hexdigest(),
        expressions={
            form: Expressions(found=counts[form, "found"], changed=counts[form, "changed"])
            for form in EXPRESSION_FORMS
        },
        mul_fact_tokens=totals["mul_fact_tokens"],
        original_bytes=int(table[:, ORIGINAL_BYTES].sum()),
        plain_tokens=totals["plain_tokens"],
        tokens=int(table[:, TOKENS].sum()),
    )
    (directory / ENTRY).write_bytes(json_bytes(entry.model_dump()))


def _with_progress(
    results: Iterator[tuple[ShardEntry, Path]], count: int, name: str
) -> Generator[tuple[ShardEntry, Path], None, None]:
    """Yield `results`, each an entry with its directory, under a bar that shows tokens a second and the time left."""
    started, tokens = time.perf_counter(), 0
    with tqdm(total=count, desc=name, unit="shard", disable=None) as bar:
        for entry, directory in results:
            tokens += entry.tokens
            bar.set_postfix_str(
                f"{tokens / (time.perf_counter() - started):,.0f} tokens/s", refresh=False
            )
            bar.update()
            yield entry, directory
