"""The `tokenize` section: how text becomes ids."""

from typing import Annotated

from pydantic import Field

from common.sections import Section, param

# uint16 holds the ids of shards: the ranks, end of text, 45 facts, all padded to a multiple of 64.
_MOST_RANKS = 2**16 - 46


class TokenizeParams(Section):
    """How text becomes ids."""

    base_ranks: int = param(
        "Byte-pair ranks of GPT-2 that the vocabulary keeps, the first ones.",
        unit="ranks",
        rule="at most `fetch.ranks.count`",
        ge=256,
        le=_MOST_RANKS,
    )
    pattern: Annotated[str, Field(min_length=1)] | None = param(
        "Regular expression whose matches are encoded one by one; null is GPT-2's. tiktoken and "
        "Hugging Face's tokenizers both read it. It must match every character, and treat white "
        "space as GPT-2's does.",
        rule="matches every character",
    )
    mul_facts: bool = param(
        "Whether plainly stated products in documents become fact tokens (docs/data.md)."
    )
