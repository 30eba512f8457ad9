"""The `numerics` section: how CPUs compute, and whether a result depends on the processor."""

from typing import Literal, Self

from pydantic import Field, model_validator

from common.sections import Section


class NumericsParams(Section):
    """`kernels` are portable or native, in all stages that compute with torch.

    portable: the same bytes on every x86-64 processor with AVX2 and for any number of threads, in
    float32 on a CPU (model/numerics/portable.py). A stage uses the cores that it is given.
    native: torch's own kernels, on CPUs and GPUs. Bytes depend on the processor and on `threads`,
    the number of a CPU's threads.
    """

    kernels: Literal["portable", "native"]
    threads: int | None = Field(gt=0)

    @model_validator(mode="after")
    def _values_agree(self) -> Self:
        if self.kernels == "portable" and self.threads is not None:
            raise ValueError(
                f"threads ({self.threads}) must be null with portable kernels: their results do "
                "not depend on it, and a stage uses the cores that it is given"
            )
        if self.kernels == "native" and self.threads is None:
            raise ValueError(
                "threads must be a number with native kernels: their results depend on it"
            )
        return self
