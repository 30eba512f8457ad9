"""The `evaluate` section: how scoring uses the machine."""

from pydantic import Field

from model.section import Section


class EvaluateParams(Section):
    """The `evaluate` section: `batch_tokens` bounds a batch's padded size; it changes speed, not what is measured."""

    batch_tokens: int = Field(gt=0)
    device: str = Field(pattern=r"^(cpu|cuda)$")
    threads: int = Field(gt=0)
