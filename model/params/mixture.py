"""A mixture of sources by weight, in a seeded order."""

import math
import random
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")


def mix(sources: dict[str, list[T]], weights: dict[str, float], count: int, seed: int) -> list[T]:
    """Return `count` members of `sources`, from each in proportion to its weight, shuffled.

    Members of a source are drawn in a shuffled order. If a source has too few, it is drawn from
    again in another order. Shares are rounded to whole members so that they add up (largest
    remainder). The result depends on the arguments only.
    """
    chosen = []
    for name, share in shares(weights, count).items():
        generator = random.Random(f"{seed}/{name}")
        drawn: list[T] = []
        while len(drawn) < share:
            drawn += generator.sample(sources[name], len(sources[name]))
        chosen += drawn[:share]
    random.Random(seed).shuffle(chosen)
    return chosen


def shares(weights: dict[str, float], count: int) -> dict[str, int]:
    """Return how many of `count` each name gets; ties of remainders go to the first."""
    # Exact, so that no weight overflows, however great.
    total = sum(map(Fraction, weights.values()))
    exact = {name: count * Fraction(weight) / total for name, weight in weights.items()}
    whole = {name: math.floor(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: whole[name] - exact[name])[
        : count - sum(whole.values())
    ]:
        whole[name] += 1
    return whole
