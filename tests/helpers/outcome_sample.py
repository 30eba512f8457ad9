"""Outcomes of items from plain values."""

import numpy as np

from model.comparison.outcomes import Outcomes


def outcomes(values: list[float], items: str = "ab", clusters: list[str] | None = None) -> Outcomes:
    return Outcomes(
        np.array(values),
        np.ones(len(values)),
        clusters or list(map(str, range(len(values)))),
        items,
        True,
    )
