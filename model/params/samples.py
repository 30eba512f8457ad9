"""The `samples` section: fixed prompts that every checkpoint continues."""

from typing import Literal

from pydantic import field_validator

from common.errors import printable
from common.sections import Section, param


class SamplesParams(Section):
    """Fixed prompts that every checkpoint continues, for people to read in the report.

    Each next token is the likeliest one (greedy decoding).
    """

    prompts: list[str] = param(
        "Texts that every checkpoint continues. An empty text is the start of a document; without "
        "prompts nothing is sampled.",
        rule="no text twice",
    )
    device: Literal["cpu", "cuda"] = param(
        "Where continuations are computed: `cpu` or `cuda`.",
        rule="`cuda` needs `numerics.kernels: native`",
    )
    new_tokens: int = param(
        "Greatest length of a continuation.", unit="tokens", rule="below `model.context`", gt=0
    )

    @field_validator("prompts")
    @classmethod
    def _are_distinct(cls, prompts: list[str]) -> list[str]:
        for place, prompt in enumerate(prompts):
            if prompt in prompts[:place]:
                raise ValueError(f"names {printable(prompt)!r} twice; remove one")
        return prompts
