"""The `model` section: the transformer's size, without its vocabulary."""

from typing import Self

from pydantic import model_validator

from common.sections import Section, param

# Each position has a learned vector, and attention's time grows with the square of the context.
_LONGEST_CONTEXT = 2**16


class NetworkParams(Section):
    """The size of the transformer.

    The vocabulary follows from `tokenize.base_ranks`.
    """

    layers: int = param("Transformer blocks, one after the other.", unit="blocks", gt=0)
    heads: int = param("Attention heads in a block.", unit="heads", gt=0)
    width: int = param(
        "Size of the vector of each token.", unit="channels", rule="a multiple of `heads`", gt=0
    )
    context: int = param(
        "Tokens that the network sees at once. A training row has as many.",
        unit="tokens",
        rule="all conditions have the same `pretrain.batch_rows` × `context`",
        gt=1,
        le=_LONGEST_CONTEXT,
    )

    @model_validator(mode="after")
    def _width_divides_into_heads(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        return self
