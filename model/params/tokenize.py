"""The `tokenize` section: the vocabulary's size. model/conditions/ has each condition's rules."""

from pydantic import Field

from common.sections import Section


class TokenizeParams(Section):
    """`base_ranks`: how many of GPT-2's ranks to keep."""

    base_ranks: int = Field(ge=256)
