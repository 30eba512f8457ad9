"""The `model` section: the transformer's size, without its vocabulary."""

from typing import Self

from pydantic import Field, model_validator

from common.sections import Section

# Each position has a learned vector, and attention's time grows with the square of the context.
_LONGEST_CONTEXT = 2**16


class NetworkParams(Section):
    layers: int = Field(gt=0)
    heads: int = Field(gt=0)
    width: int = Field(gt=0)
    context: int = Field(gt=1, le=_LONGEST_CONTEXT)

    @model_validator(mode="after")
    def _width_divides_into_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self
