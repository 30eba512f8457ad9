"""The `sft` section: supervised fine-tuning of the last export on conversations."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from common.sections import Section


class SftParams(Section):
    """One step takes `batch_rows` conversations.

    The learning rate rises linearly from zero over `warmup_steps`, then falls linearly to zero.

    If `inject_facts` is true, the facts that answers state are tokens, in conditions that have such
    tokens. Every `state_every` steps, everything that a killed run needs to go on is saved.
    """

    COMMON: ClassVar = frozenset({"log_every", "state_every", "device"})

    max_steps: int = Field(gt=0)
    batch_rows: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    gradient_clip: float = Field(gt=0)
    inject_facts: bool
    log_every: int = Field(gt=0)
    state_every: int = Field(gt=0)
    device: Literal["cpu", "cuda"]
    dtype: Literal["float32", "bfloat16"]

    @model_validator(mode="after")
    def _values_agree(self) -> Self:
        # A logged loss is the mean since the last one, and a resumed run has none of before.
        if self.state_every % self.log_every:
            raise ValueError(
                f"state_every ({self.state_every}) must be a multiple of log_every "
                f"({self.log_every})"
            )
        if self.max_steps % self.log_every:
            raise ValueError(
                f"max_steps ({self.max_steps}) must be a multiple of log_every ({self.log_every})"
            )
        if self.warmup_steps >= self.max_steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be below max_steps ({self.max_steps})"
            )
        return self
