"""The `sft` section: supervised fine-tuning of the last export on conversations."""

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from common.sections import Section, param


class SftParams(Section):
    """Supervised fine-tuning of the last export (docs/training.md).

    The learning rate rises along a line from zero, then falls along a line to zero.
    """

    COMMON: ClassVar = frozenset({"log_every", "state_every", "device"})

    max_steps: int = param(
        "Steps of fine-tuning.",
        unit="steps",
        rule="a multiple of `log_every`; `max_steps` × `batch_rows` is a multiple of "
        "`problems.conversations`",
        gt=0,
    )
    batch_rows: int = param(
        "Conversations of one step.",
        unit="rows",
        rule="`max_steps` × `batch_rows` is a multiple of `problems.conversations`",
        gt=0,
    )
    learning_rate: float = param("Peak learning rate.", gt=0)
    warmup_steps: int = param(
        "Steps over which the learning rate rises to its peak.",
        unit="steps",
        rule="below `max_steps`",
        ge=0,
    )
    weight_decay: float = param("Weight decay of matrices; biases and norms have none.", ge=0)
    beta1: float = param("AdamW's decay rate of the mean gradient.", ge=0, lt=1)
    beta2: float = param("AdamW's decay rate of the mean squared gradient.", ge=0, lt=1)
    gradient_clip: float = param(
        "Greatest norm of a step's gradient. A longer gradient is scaled down to it.", gt=0
    )
    inject_facts: bool = param(
        "Whether the facts that answers state are tokens, in conditions with such tokens."
    )
    log_every: int = param("Steps between two rows of the loss curve.", unit="steps", gt=0)
    state_every: int = param(
        "Steps between two saved states, from which a killed run resumes.",
        unit="steps",
        rule="a multiple of `log_every`",
        gt=0,
    )
    device: Literal["cpu", "cuda"] = param(
        "Where fine-tuning computes: `cpu` or `cuda`.",
        rule="`cuda` needs `numerics.kernels: native`",
    )
    dtype: Literal["float32", "bfloat16"] = param(
        "Type of numbers in forward and backward pass: `float32` or `bfloat16`.",
        rule="`bfloat16` needs `numerics.kernels: native`",
    )

    @model_validator(mode="after")
    def _values_agree(self) -> Self:
        # A logged loss is the mean since the last row, and a resumed run has no earlier losses.
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
