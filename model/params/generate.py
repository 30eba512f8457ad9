"""The `generate` section: how fine-tuned models answer."""

from typing import Literal

from common.sections import Section, param


class GenerateParams(Section):
    """How fine-tuned models answer the word problems."""

    batch_rows: int = param(
        "Questions that are answered together. It may change the last bits of a logit.",
        unit="rows",
        gt=0,
    )
    device: Literal["cpu", "cuda"] = param(
        "Where answers are computed: `cpu` or `cuda`.",
        rule="`cuda` needs `numerics.kernels: native`",
    )
    new_tokens: int = param(
        "Greatest length of an answer.", unit="tokens", rule="below `model.context`", gt=0
    )
