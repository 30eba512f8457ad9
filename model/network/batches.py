"""Choose held-out documents and lay them out as rows of tokens."""

import numpy as np


def spread_documents(total: int, count: int) -> np.ndarray:
    """Return `count` document numbers spread evenly over `total`; all of them if there are fewer.

    The numbers ascend, int64 (min(count, total),). Documents stand in the order of their sources,
    so the first `count` would all come from one source.
    """
    # 4 of 10: [0, 1, 2, 3] * 10 // 4 = [0, 2, 5, 7].
    return np.arange(min(count, total)) * total // min(count, total)


def validation_rows(documents: list[np.ndarray], context: int) -> tuple[np.ndarray, np.ndarray]:
    """Lay `documents`, the ids of each, end to end and cut them into rows.

    Returns two arrays:
        tokens  int64 (rows, context + 1), padded with the last token
        owners  int64 (rows, context): for each target, the index in `documents` of its document;
                -1 for padding

    The very first token is not a target. Example with a context of 3, where `e` is end of text:

        documents   e a b | e c
        tokens      [e a b e]   [e c c c]      neighbouring rows share one token
        targets     [  a b e]   [  c . .]      `.` is padding
        owners      [  0 0 1]   [  1 -1 -1]
    """
    tokens = np.concatenate(documents).astype(np.int64)
    # (tokens - 1,): without the first token, which is no target.
    owners = np.repeat(np.arange(len(documents)), [len(document) for document in documents])[1:]
    # Rounded up: the last row may be partly padding.
    rows = -(-len(owners) // context)
    padding = rows * context - len(owners)
    stream = np.pad(tokens, (0, padding), mode="edge")
    # (rows, context + 1): every context-th window, a view of `stream`.
    windows = np.lib.stride_tricks.sliding_window_view(stream, context + 1)[::context]
    return windows.copy(), np.pad(owners, (0, padding), constant_values=-1).reshape(rows, context)
