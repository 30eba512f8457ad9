"""The `probes` section: how models answer the arithmetic questions."""

from typing import Literal

from common.sections import Section, param


class ProbesParams(Section):
    """How models answer the arithmetic questions."""

    batch_rows: int = param(
        "Prompts that are continued together. It may change the last bits of a logit.",
        unit="rows",
        gt=0,
    )
    device: Literal["cpu", "cuda"] = param(
        "Where answers are computed: `cpu` or `cuda`.",
        rule="`cuda` needs `numerics.kernels: native`",
    )
    new_tokens: int = param(
        "Length of an answer. The demonstration's 10 tokens are enough for a number in words.",
        unit="tokens",
        rule="below `model.context`",
        gt=0,
    )
