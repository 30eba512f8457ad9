"""The `items` section: how many items every checkpoint answers, and how continuations are cut."""

from pydantic import Field

from model.section import Section


class ItemsParams(Section):
    """The `items` section of params.yaml; a count of null takes every item."""

    hellaswag_count: int | None = Field(gt=0)
    continuation_count: int = Field(gt=0)
    context_words: int = Field(gt=0)
    ending_words: int = Field(gt=0)
    seed: int
