"""A mixture of sources by weight, in a seeded order."""

import math
import random
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")


def mix(
    sources: dict[str, list[T]],
    weights: dict[str, float],
    count: int,
    seed: int | str,
    part: int = 0,
) -> list[T]:
    """Return `count` members of `sources`, from each in proportion to its weight, shuffled.

    Members of a source are drawn in a shuffled order. If a source has too few, it is drawn from
    again in another order. Shares are rounded to whole members so that they add up (largest
    remainder). The result depends on the arguments only.

    `part` 1 goes on where part 0 has ended in each source, and so on: through all parts, members of
    a source are drawn equally often.
    """
    chosen = []
    for name, share in shares(weights, count).items():
        generator = random.Random(f"{seed}/{name}")
        drawn: list[T] = []
        while len(drawn) < (part + 1) * share:
            drawn += generator.sample(sources[name], len(sources[name]))
        chosen += drawn[part * share : (part + 1) * share]
    random.Random(f"{seed}/{part}" if part else seed).shuffle(chosen)
    return chosen


def shares(weights: dict[str, float], count: int) -> dict[str, int]:
    """Return how many of `count` each name gets, by name; ties of remainders go to the first.

    The order of `weights` does not count: DVC takes mappings of another order as equal.
    """
    # Exact, so that no weight overflows, however great.
    total = sum(map(Fraction, weights.values()))
    exact = {name: count * Fraction(weights[name]) / total for name in sorted(weights)}
    whole = {name: math.floor(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: whole[name] - exact[name])[
        : count - sum(whole.values())
    ]:
        whole[name] += 1
    return whole
