"""The `evaluate` section: how scoring uses the machine."""

from typing import Literal

from pydantic import Field

from common.sections import Section


class EvaluateParams(Section):
    """The `evaluate` section.

    On a CPU only `dtype` changes figures; on a GPU the other settings may change their last digits.

    `batch_tokens` limits a batch's padded tokens. On a CPU, each thread computes a batch of its
    own. `processes` share the items; each has its own threads, or its own GPU.
    """

    batch_tokens: int = Field(gt=0)
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]
    processes: int = Field(gt=0)
