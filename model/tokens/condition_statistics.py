"""Metrics of one condition's shards: tokens, bytes and facts of the documents all share."""

import hashlib
from collections import Counter
from typing import Any

from model.tokens.shards import Index


def summarize(index: Index) -> dict[str, Any]:
    """Return the metrics of one condition's shards.

    For each split: the number of documents and their SHA-256 in order (the same in every
    condition), original bytes, tokens, tokens per original byte, facts, and facts per token. For
    both splits together: expressions found and changed to facts, by form.
    """
    expressions: dict[str, Counter[str]] = {}
    for entries in index.splits.values():
        for entry in entries:
            for form, counts in entry.expressions.items():
                expressions.setdefault(form, Counter()).update(counts.model_dump())
    return {"expressions": expressions, **{split: _split(index, split) for split in index.splits}}


def _split(index: Index, split: str) -> dict[str, Any]:
    # A hash over the shards' hashes, so it covers all documents in order.
    digests = "".join(entry.documents_sha256 for entry in index.splits[split])
    totals = {
        figure: index.total(split, figure)
        for figure in ("documents", "mul_fact_tokens", "original_bytes", "tokens")
    }
    return {
        **totals,
        "documents_sha256": hashlib.sha256(digests.encode()).hexdigest(),
        "mul_fact_rate": totals["mul_fact_tokens"] / totals["tokens"],
        "tokens_per_byte": totals["tokens"] / totals["original_bytes"],
    }
