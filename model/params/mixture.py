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

    Each source is an endless sequence of its members: one shuffled order after another. A part
    takes `shares` of each sequence. Part 1 goes on where part 0 has ended, so through all parts the
    members of a source are drawn equally often. With a source [a, b, c] and a share of 2:

        sequence    b a c | a c b | …
        part 0      b a
        part 1          c   a
        part 2                c b

    The result depends on the arguments only.
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
    """Return how many of `count` each name gets, in proportion to its weight (largest remainder).

    {a: 2, b: 1} and a count of 10: the exact shares are 6 2/3 and 3 1/3, the whole ones 6 and 3.
    The one that is left goes to the greatest remainder, so a gets 7. The first name in alphabetical
    order wins a tie. The order of `weights` does not count, since DVC takes mappings of another
    order as equal.
    """
    # Fractions are exact, and no weight overflows.
    total = sum(map(Fraction, weights.values()))
    exact = {name: count * Fraction(weights[name]) / total for name in sorted(weights)}
    whole = {name: math.floor(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: whole[name] - exact[name])[
        : count - sum(whole.values())
    ]:
        whole[name] += 1
    return whole
