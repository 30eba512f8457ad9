"""The `tokenize` section: the size of the vocabulary; what conditions make of it stands in model/conditions/."""

from pydantic import Field

from common.sections import Section


class TokenizeParams(Section):
    """`base_ranks`: how many of GPT-2's ranks to keep."""

    base_ranks: int = Field(ge=256)
