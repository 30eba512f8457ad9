"""Tokenize a corpus to shards, one token shard for each parquet shard, in parallel over processes.

The output depends on the corpus and the tokenizer alone: each worker turns one whole shard, and results are taken in order.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model.documents import document_shards, read_documents
from model.shards import Index, ShardEntry, write_shard
from model.tokenizer import Tokenizer

SPLITS = ("train", "val")


@dataclass(frozen=True)
class _Job:
    corpus_shard: Path
    split: str
    number: int


def tokenize_corpus(corpus: Path, sources: list[str], tokenizer: Tokenizer, condition: str, output: Path) -> Index:
    """Write the token shards and the tokenizer's files to `output`; return the index that belongs beside them."""
    tokenizer.save(output)
    jobs = [_Job(path, split, number) for split in SPLITS for number, path in enumerate(document_shards(corpus, split))]
    splits: dict[str, list[ShardEntry]] = {split: [] for split in SPLITS}
    work = partial(_tokenize_shard, tokenizer=tokenizer, sources=sources, output=output)
    # The cores this process may use; macOS tells only how many there are.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ProcessPoolExecutor(max_workers=min(cores, len(jobs))) as pool:
        results = tqdm(pool.map(work, jobs), total=len(jobs), desc=f"tokenize {condition}", unit="shard", disable=None)
        for job, entry in zip(jobs, results, strict=True):
            splits[job.split].append(entry)
    return Index(condition=condition, sources=sources, splits=splits, vocab_size=tokenizer.size)


def _tokenize_shard(job: _Job, tokenizer: Tokenizer, sources: list[str], output: Path) -> ShardEntry:
    documents: list[np.ndarray] = []
    rows = []
    for text, source in read_documents(job.corpus_shard):
        documents.append(np.array([tokenizer.end_of_text, *tokenizer.encode_document(text)], dtype=np.uint16))
        rows.append((len(documents[-1]), len(text.encode()), sources.index(source)))
    table = np.array(rows, dtype=np.int32).reshape(-1, 3)
    write_shard(output, job.split, job.number, documents, table)
    return ShardEntry(
        documents=len(documents),
        mul_fact_tokens=sum(int(tokenizer.is_fact(document).sum()) for document in documents),
        original_bytes=int(table[:, 1].sum(dtype=np.int64)),
        tokens=int(table[:, 0].sum(dtype=np.int64)),
    )
