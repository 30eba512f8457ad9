"""The `tokenize` section: how text becomes ids."""

from typing import Annotated

from pydantic import Field

from common.sections import Section


class TokenizeParams(Section):
    """`base_ranks`: how many of GPT-2's ranks to keep.

    `pattern` is the regular expression whose matches are encoded one by one, read by tiktoken and
    by Hugging Face's tokenizers; null is GPT-2's. It must match every character, and treat white
    space as GPT-2's does. If `mul_facts` is true, plainly stated products become tokens in training
    documents.
    """

    base_ranks: int = Field(ge=256)
    pattern: Annotated[str, Field(min_length=1)] | None
    mul_facts: bool
