"""Which documents make the corpus: de-duplicated, clean of the benchmark, with drills, split by content."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator

from model.contamination import Benchmark
from model.documents import Document
from model.drills import generate_drills
from model.errors import PipelineError
from model.params.corpus import CorpusParams
from model.source_names import DRILL_SOURCE


def select_documents(
    documents: Iterable[Document], benchmark: Benchmark, params: CorpusParams, counts: Counter
) -> Iterator[Document]:
    """Yield the documents to keep, each followed by as many drills as keep the stated fraction.

    Drops exact duplicates (of the stripped text) and documents that share text with the benchmark; `counts` receives
    how many of each. Memory grows by about 100 bytes a document.
    """
    seen: set[bytes] = set()
    drills = (Document(text, DRILL_SOURCE) for text in generate_drills(params.drill_seed))
    text_characters = drill_characters = 0
    counts.update({"read": 0, "duplicate": 0, "contaminated": 0})
    for document in documents:
        if document.source == DRILL_SOURCE:
            raise PipelineError(f"a source of passages may not be named {DRILL_SOURCE}; rename its file")
        document = document._replace(text=document.text.strip())
        counts["read"] += 1
        if not _is_new(document, seen):
            counts["duplicate"] += 1
            continue
        if benchmark.shares_text_with(document.text):
            counts["contaminated"] += 1
            continue
        yield document
        text_characters += len(document.text)
        while drill_characters < params.drill_fraction / (1 - params.drill_fraction) * text_characters:
            drill = next(drills)
            if _is_new(drill, seen):
                drill_characters += len(drill.text)
                yield drill


def is_validation(document: Document, val_fraction: float) -> bool:
    """Whether the document belongs to the validation split: decided by its text alone, never by its neighbours."""
    return int.from_bytes(_digest(document)[:8], "big") < val_fraction * 2**64


def _is_new(document: Document, seen: set[bytes]) -> bool:
    digest = _digest(document)
    if digest in seen:
        return False
    seen.add(digest)
    return True


def _digest(document: Document) -> bytes:
    return hashlib.blake2b(document.text.encode(), digest_size=16).digest()
