"""The `numerics` section: how CPUs compute, and whether a result depends on the processor."""

from typing import Literal, Self

from pydantic import model_validator

from common.sections import Section, param


class NumericsParams(Section):
    """How all stages that use torch compute.

    Portable kernels compute in float32 on a CPU (model/numerics/portable.py). Their results are the
    same for any number of threads, so a stage takes the cores that it is given. Native kernels run
    on CPUs and GPUs, and their bytes depend on the processor.
    """

    kernels: Literal["portable", "native"] = param(
        "`portable`: the same bytes on every x86-64 processor with AVX2; `native`: torch's own."
    )
    threads: int | None = param(
        "CPU threads of native kernels, on which their bytes depend.",
        unit="threads",
        rule="null with `portable`, a number with `native`",
        gt=0,
    )

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
