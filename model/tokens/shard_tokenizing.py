"""Tokenize a corpus, one token shard for each parquet shard, on all cores.

The output depends on the corpus and the tokenizer only, not on the number of workers: each worker
tokenizes whole shards, and results are collected in order. Finished shards survive a kill. Several
processes may share the shards (common/share.py), since no shard needs the result of another.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
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
    """What every worker needs: the corpus `directory`, the tokenizer, and `scratch` for its shards.

    `plain` has the vocabulary in which plain tokens are counted, the same in every condition. None
    means that it is the vocabulary of `tokenizer`.
    """

    directory: Path
    sources: list[str]
    tokenizer: Tokenizer
    scratch: Path
    plain: Tokenizer | None = None


class Job(NamedTuple):
    """One shard to tokenize: its first `plain_tokens` plain tokens, or all of it if None."""

    split: str
    number: int
    plain_tokens: int | None = None


class Tokenized(NamedTuple):
    """A finished shard: its entry in the index, and the directory that has it as shard 0."""

    entry: ShardEntry
    directory: Path


def tokenize_corpus(
    task: Task, condition: str, target_tokens: int | None, processes: int | None = None
) -> dict[str, list[Tokenized]]:
    """Tokenize both splits of the corpus; return the finished shards of each, in order.

    `target_tokens` cuts the training split to exactly so many tokens of the plain vocabulary. The
    last document is cut as text without facts. So every condition has the same documents, and the
    same bytes of the last one. With 1,000 tokens in shards of 400, 400 and 400, the third is
    tokenized again up to 200. Raises PipelineError if the split has fewer tokens.
    """
    # The training split comes last: its shards after the cut are not waited for.
    jobs = [
        Job(split, number)
        for split in ("val", "train")
        for number in range(len(document_shards(task.directory, split)))
    ]
    finished: dict[str, list[Tokenized]] = {"train": [], "val": []}
    # Plain tokens that are still missing; None without a target.
    left = target_tokens
    results = in_order(
        tokenize_shard,
        task,
        jobs,
        processes,
        phase="shards",
        shown=partial(_with_progress, f"tokenize {condition}"),
    )
    with closing(results):
        for job, shard in zip(jobs, results, strict=False):
            if left is not None and job.split == "train":
                if shard.entry.plain_tokens > left:
                    shard = tokenize_shard(task, job._replace(plain_tokens=left))
                left -= shard.entry.plain_tokens
            finished[job.split].append(shard)
            if left == 0:
                break
    if target_tokens is not None and left:
        raise PipelineError(
            f"tokenize: the training split has {target_tokens - left} tokens of the plain "
            "vocabulary, corpus.target_tokens asks "
            f"for {target_tokens}; fetch more text or lower it"
        )
    return finished


def publish_shards(finished: dict[str, list[Tokenized]], output: Path) -> None:
    """Put the finished shards of each split into `output`, numbered in order."""
    for split, shards in finished.items():
        for number, shard in enumerate(shards):
            for source, target in zip(
                shard_paths(shard.directory, split, 0),
                shard_paths(output, split, number),
                strict=True,
            ):
                publish(source, target)


def tokenize_shard(task: Task, job: Job) -> Tokenized:
    """Return the finished shard: a piece made now or by an earlier run of the same work."""
    limit = "" if job.plain_tokens is None else f"_{job.plain_tokens}"
    directory = piece(
        task.scratch, f"{job.split}_{job.number:05d}{limit}", partial(_make, task, job)
    )
    return Tokenized(read_json(directory / ENTRY, ShardEntry), directory)


def _make(task: Task, job: Job, directory: Path) -> None:
    """Write a shard's ids, its documents table and its index entry into `directory`."""
    tokenizer, left = task.tokenizer, job.plain_tokens
    counting = task.plain or tokenizer
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
        plain_tokens = len(task.plain.encode_plain(text)) if task.plain else encoded.plain_tokens
        # A document has one more token, its end of text. With 10 left, one of 10 or more is cut to
        # 9, and one of 9 fits exactly.
        if left is not None and plain_tokens >= left:
            # Cut in the plain vocabulary, then encode the same bytes in this condition's.
            plain = counting.encode_plain(text)[: left - 1]
            content, plain_tokens = counting.decode_bytes(plain), len(plain)
            if task.plain:
                plain = tokenizer.encode_bytes(content)
            encoded = EncodedDocument(plain, len(plain), 0, Counter())
        left = None if left is None else left - plain_tokens - 1
        counts.update(encoded.expressions)
        # The length before each text, so that the hash also fixes where documents end.
        digest.update(len(content).to_bytes(8, "big") + content)
        documents.append(
            np.concatenate([[tokenizer.end_of_text], encoded.tokens]).astype(np.uint16)
        )
        # One row of the table: tokens with end of text, original bytes, source.
        rows.append((len(encoded.tokens) + 1, len(content), number_of[source]))
        totals.update(mul_fact_tokens=encoded.facts, plain_tokens=plain_tokens + 1)
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


def _with_progress(name: str, results: Iterator[Tokenized], count: int) -> Iterator[Tokenized]:
    """Yield `results` under a bar with tokens/s and time left."""
    started, tokens = time.perf_counter(), 0
    with tqdm(total=count, desc=name, unit="shard", disable=None) as bar:
        for shard in results:
            tokens += shard.entry.tokens
            bar.set_postfix_str(
                f"{tokens / (time.perf_counter() - started):,.0f} tokens/s", refresh=False
            )
            bar.update()
            yield shard
