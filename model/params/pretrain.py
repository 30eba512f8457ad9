"""The `pretrain` section: one optimizer step takes `batch_rows` rows of the model's context.

If `weight_seed` or `data_seed` is null, it is the run's own seed, from `seeds`. A number fixes it
for all runs, so that they differ in the other seed only.

`mixture` has weights of the corpus's sources: their shares of the original text. Empty, the corpus
is taken as it is. `document_starts` is `packed` where documents follow each other and rows cut
them, and `row` where each row begins with a document. If `attention_within_documents` is true,
tokens attend to tokens of their own document only, in training and validation: all conditions
have it in common, or their validation losses would be measured in two ways.

Every `state_every` steps, everything that a killed run needs to go on is saved.

The learning rate rises over `warmup_steps`, then falls to `min_learning_rate` at the last step:
along a cosine or a line. With `wsd` it stays, and falls along a line over the last `decay_steps`.

`muon` trains the matrices inside blocks with Muon, and the rest with AdamW. Muon's learning rate
follows the same schedule with a peak of `muon_learning_rate`, or of `learning_rate` if that is
null, times a factor for the matrix's shape, `muon_adjustment`; so its lowest rate is as much of
its peak as `min_learning_rate` is of `learning_rate`. `adamw` does not use the keys of
Muon, and only `wsd` uses `decay_steps`.

Each of `nodes` machines runs `processes` processes. Each process computes its share of the rows,
`micro_batch_rows` rows at a time.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from common.sections import Section


class PretrainParams(Section):
    # What makes the graph, what is compared at the same steps, and how a run uses the machine.
    COMMON: ClassVar = frozenset(
        [
            "max_steps",
            "checkpoint_steps",
            "processes",
            "nodes",
            "log_every",
            "validate_every",
            "validation_documents",
            "canary_documents",
            "attention_within_documents",  # of validation too, which is compared
            "state_every",
            "device",
            "compile",
        ]
    )

    weight_seed: int | None = Field(ge=0)
    data_seed: int | None = Field(ge=0)
    mixture: dict[str, Annotated[float, Field(gt=0)]]
    document_starts: Literal["packed", "row"]
    attention_within_documents: bool
    max_steps: int = Field(gt=0)
    checkpoint_steps: list[int] = Field(min_length=1)
    batch_rows: int = Field(gt=0)
    micro_batch_rows: int = Field(gt=0)
    processes: int = Field(gt=0)
    nodes: int = Field(gt=0)
    optimizer: Literal["adamw", "muon"]
    learning_rate: float = Field(gt=0)
    min_learning_rate: float = Field(ge=0)
    schedule: Literal["cosine", "linear", "wsd"]
    warmup_steps: int = Field(ge=0)
    decay_steps: int = Field(gt=0)
    weight_decay: float = Field(ge=0)
    beta1: float = Field(ge=0, lt=1)
    beta2: float = Field(ge=0, lt=1)
    muon_learning_rate: float | None = Field(gt=0)
    muon_adjustment: Literal["original", "match_rms_adamw"]
    muon_momentum: float = Field(ge=0, lt=1)
    muon_nesterov: bool
    muon_ns_steps: int = Field(gt=0, lt=100)
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
        if self.schedule == "wsd" and self.warmup_steps + self.decay_steps > self.max_steps:
            raise ValueError(
                f"warmup_steps + decay_steps ({self.warmup_steps} + {self.decay_steps}) must not "
                f"exceed max_steps ({self.max_steps})"
            )
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate ({self.min_learning_rate}) must not exceed learning_rate "
                f"({self.learning_rate})"
            )
        return self
