"""The `samples` section: fixed prompts that every checkpoint continues."""

from typing import Literal

from pydantic import Field, field_validator

from common.errors import printable
from common.sections import Section


class SamplesParams(Section):
    """Each of `prompts` is continued greedily, by at most `new_tokens` tokens.

    An empty prompt is the start of a document. Without prompts nothing is sampled.
    """

    prompts: list[str]
    device: Literal["cpu", "cuda"]
    new_tokens: int = Field(gt=0)

    @field_validator("prompts")
    @classmethod
    def _are_distinct(cls, prompts: list[str]) -> list[str]:
        for place, prompt in enumerate(prompts):
            if prompt in prompts[:place]:
                raise ValueError(f"names {printable(prompt)!r} twice; remove one")
        return prompts
