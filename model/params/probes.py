"""The `probes` section: how the arithmetic questions are asked."""

from typing import Literal

from pydantic import Field

from common.sections import Section


class ProbesParams(Section):
    """`batch_rows` prompts are continued at a time, each by `new_tokens` tokens.

    So many tokens are enough for a number in words.
    """

    batch_rows: int = Field(gt=0)
    device: Literal["cpu", "cuda"]
    new_tokens: int = Field(gt=0)
