"""The `evaluate` section: how scoring uses the machine."""

from typing import Literal

from common.sections import Section, param


class EvaluateParams(Section):
    """How scoring uses the machine.

    On a CPU only `dtype` changes figures. On a GPU the other keys may change their last digits.
    """

    batch_tokens: int = param(
        "Padded tokens of a batch, at most. On a CPU each thread computes a batch of its own.",
        unit="tokens",
        gt=0,
    )
    device: Literal["cpu", "cuda"] = param(
        "Where items are scored: `cpu` or `cuda`.", rule="`cuda` needs `numerics.kernels: native`"
    )
    dtype: Literal["float32", "bfloat16"] = param(
        "Type of numbers in scoring: `float32` or `bfloat16`.",
        rule="`bfloat16` needs `numerics.kernels: native`",
    )
    processes: int = param(
        "Processes that share the items. Each has its own threads, or its own GPU.",
        unit="processes",
        gt=0,
    )
