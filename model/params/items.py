"""The `items` section: how many items every checkpoint answers, and how continuations are cut."""

from pydantic import Field

from common.sections import Section

# An interval and a comparison need two clusters of items, so at least two items.
_LEAST_ITEMS = 2


class ItemsParams(Section):
    """The `items` section of params.yaml; a count of null takes every item."""

    hellaswag_count: int | None = Field(ge=_LEAST_ITEMS)
    continuation_count: int = Field(ge=_LEAST_ITEMS)
    context_words: int = Field(gt=0)
    ending_words: int = Field(gt=0)
    seed: int
