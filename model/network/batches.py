"""Rows of held-out documents: which documents, and how they are laid out."""

import numpy as np


def spread_documents(total: int, count: int) -> np.ndarray:
    """Return `count` document numbers spread evenly over `total`, all where there are fewer.

    Documents stand in the order of their sources: the first ones would be those of a single source.
    """
    return np.arange(min(count, total)) * total // min(count, total)


def validation_rows(documents: list[np.ndarray], context: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay `documents`, the ids of each, end to end and cut them into rows.

    Returns tokens, int64 (rows, context + 1), padded with the last token, and for each target the
    index in `documents` of its document, int64 (rows, context), -1 for padding. The very first
    token is not a target.
    """
    tokens = np.concatenate(documents).astype(np.int64)
    owners = np.repeat(np.arange(len(documents)), [len(document) for document in documents])[1:]
    rows = -(-len(owners) // context)
    padding = rows * context - len(owners)
    stream = np.pad(tokens, (0, padding), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(stream, context + 1)[::context]
    return windows.copy(), np.pad(owners, (0, padding), constant_values=-1).reshape(rows, context)
