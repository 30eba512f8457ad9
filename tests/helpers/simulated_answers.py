"""Two conditions that answer the same items, by a model whose truth is known."""

import numpy as np

from model.statistics.paired import (
    Paired,
)


def answers(generator, seeds=1, clusters=200, effect=0.0, of_seeds=0.0, of_items=0.0) -> Paired:
    """Draw the answers of two conditions to the same items, by a probit model.

    About two items share a source.
    """
    members = np.repeat(np.arange(clusters), generator.integers(1, 4, clusters))
    items = len(members)
    ease = 0.8 * generator.normal(size=clusters)[members] + 0.6 * generator.normal(size=items)
    arms = []
    for helped in (0.0, effect):
        suits = helped + of_items * generator.normal(size=clusters)[members]
        networks = [
            ease + suits + of_seeds * generator.normal() + generator.normal(size=items) > 0.5
            for _ in range(seeds)
        ]
        arms.append(np.array(networks, dtype=float))
    return Paired(*arms, np.ones(items), members)
