"""HellaSwag: a seeded sample of the benchmark's items."""

import random

from common.errors import PipelineError
from model.data.items import Item
from model.params.items import ItemsParams
from model.tasks.item_selection import Sources


def select(sources: Sources, params: ItemsParams) -> list[Item]:
    return sample_items(sources.hellaswag(), params.hellaswag_count, params.seed)


def sample_items(items: list[Item], count: int | None, seed: int) -> list[Item]:
    """Draw `count` items without replacement by `seed`, in their original order; all for None.

    The first items of a benchmark are a biased sample, so a limited evaluation never takes them.
    Raises PipelineError if there are fewer than `count`.
    """
    if count is None:
        return items
    if count > len(items):
        raise PipelineError(
            f"items.hellaswag_count ({count}) exceeds the {len(items)} items there are"
        )
    chosen = sorted(random.Random(seed).sample(range(len(items)), count))
    return [items[index] for index in chosen]
