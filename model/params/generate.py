"""The `generate` section: how fine-tuned models are asked."""

from typing import Literal

from pydantic import Field

from common.sections import Section


class GenerateParams(Section):
    """`batch_rows` prompts are answered at a time, each by at most `new_tokens` tokens."""

    batch_rows: int = Field(gt=0)
    device: Literal["cpu", "cuda"]
    new_tokens: int = Field(gt=0)
