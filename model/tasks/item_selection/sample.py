"""A seeded sample of a benchmark's items."""

import random
from typing import Literal

from common.errors import PipelineError
from model.data.items import Item


def sample_items(
    items: list[Item], count: int | Literal["all"], seed: int, name: str
) -> list[Item]:
    """Return `count` random items in their original order, or all of them.

    They are drawn without replacement from `seed`, since a benchmark's first items are a biased
    sample. Raises PipelineError, which names the key `name`, if there are fewer than `count`.
    """
    if count == "all":
        return items
    if count > len(items):
        raise PipelineError(f"{name} ({count}) exceeds the {len(items)} items there are")
    chosen = sorted(random.Random(seed).sample(range(len(items)), count))
    return [items[index] for index in chosen]
