"""The `items` section: the seed that draws items, and how continuations are cut."""

from pydantic import Field

from common.sections import Section


class ItemsParams(Section):
    context_words: int = Field(gt=0)
    ending_words: int = Field(gt=0)
    seed: int
