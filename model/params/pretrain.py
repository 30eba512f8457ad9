"""The `pretrain` section: one optimizer step takes `batch_rows` rows of the model's context.

If `weight_seed` or `data_seed` is null, it is the run's own seed, from `seeds`. A number fixes it
for all runs, so that they differ in the other seed only.

Every `state_every` steps, everything that a killed run needs to go on is saved.

Each of `nodes` machines runs `processes` processes. Each process computes its share of the rows,
`micro_batch_rows` rows at a time.
"""

from typing import Self

from pydantic import Field, model_validator

from common.sections import Section


class PretrainParams(Section):
    weight_seed: int | None = Field(ge=0)
    data_seed: int | None = Field(ge=0)
    max_steps: int = Field(gt=0)
    checkpoint_steps: list[int] = Field(min_length=1)
    batch_rows: int = Field(gt=0)
    micro_batch_rows: int = Field(gt=0)
    processes: int = Field(gt=0)
    nodes: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    min_learning_rate: float = Field(ge=0)
    warmup_steps: int = Field(ge=0)
    weight_decay: float = Field(ge=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    gradient_clip: float = Field(gt=0)
    log_every: int = Field(gt=0)
    validate_every: int = Field(gt=0)
    validation_documents: int = Field(gt=0)
    canary_documents: int = Field(gt=0)
    state_every: int = Field(gt=0)
    device: str = Field(pattern=r"^(cpu|cuda)$")
    dtype: str = Field(pattern=r"^(float32|bfloat16)$")
    compile: bool

    @model_validator(mode="after")
    def _values_agree(self) -> Self:
        steps = self.checkpoint_steps
        if steps != sorted(set(steps)) or steps[0] < 1:
            raise ValueError(f"checkpoint_steps {steps} must be positive and strictly ascending")
        if steps[-1] != self.max_steps:
            raise ValueError(f"checkpoint_steps {steps} must end with max_steps ({self.max_steps})")
        if self.batch_rows % (self.micro_batch_rows * self.processes * self.nodes):
            raise ValueError(
                f"batch_rows ({self.batch_rows}) must be a multiple of micro_batch_rows × "
                "processes × nodes "
                f"({self.micro_batch_rows} × {self.processes} × {self.nodes})"
            )
        if self.state_every % self.log_every:
            raise ValueError(
                f"state_every ({self.state_every}) must be a multiple of log_every "
                f"({self.log_every})"
            )
        if self.warmup_steps >= self.max_steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be below max_steps ({self.max_steps})"
            )
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate ({self.min_learning_rate}) must not exceed learning_rate "
                f"({self.learning_rate})"
            )
        return self
