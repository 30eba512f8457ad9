"""The `tokenize` section: the size of the vocabulary and who uses multiplication facts."""

from pydantic import Field

from model.section import Section


class TokenizeParams(Section):
    """`base_ranks`: how many of GPT-2's ranks to keep; `mul_fact_conditions`: the conditions whose facts become tokens."""

    base_ranks: int = Field(ge=256)
    mul_fact_conditions: list[str]
