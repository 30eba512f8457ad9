"""The `pretrain` section: how one network is trained (docs/training.md)."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from common.sections import Section, param

_BATCH_RULE = "`batch_rows` is a multiple of `micro_batch_rows` × `processes` × `nodes`"


class PretrainParams(Section):
    """How one network is trained (docs/training.md).

    One optimizer step takes `batch_rows` rows of `model.context` tokens. Each process computes its
    share of the rows, `micro_batch_rows` at a time. `adamw` ignores the keys that begin with
    `muon_`.
    """

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

    weight_seed: int | None = param(
        "Seed of the initial weights; null takes the run's own, of `seeds`.", ge=0, lt=2**32
    )
    data_seed: int | None = param(
        "Seed of the order of documents; null takes the run's own. A number fixes it for all runs, "
        "so that they differ in the other seed only.",
        ge=0,
        lt=2**32,
    )
    mixture: dict[str, Annotated[float, Field(gt=0)]] = param(
        "Sources of documents, by weight; {} takes the corpus as it is. A weight is a share of the "
        "original text. `data/corpus/index.json` lists the sources.",
        rule="sources of the corpus",
    )
    document_starts: Literal["packed", "row"] = param(
        "`packed`: rows cut documents anywhere; `row`: each row begins with a document."
    )
    attention_within_documents: bool = param(
        "Whether a token attends to its own document only, in training and validation."
    )
    max_steps: int = param("Optimizer steps of a run.", unit="steps", gt=0)
    checkpoint_steps: list[int] = param(
        "Steps whose weights are kept, exported and scored.",
        unit="steps",
        rule="positive and ascending; the last one is `max_steps`",
        min_length=1,
    )
    batch_rows: int = param(
        "Rows of one step, in all processes together.", unit="rows", rule=_BATCH_RULE, gt=0
    )
    micro_batch_rows: int = param(
        "Rows that a process computes at a time, with native kernels. Portable kernels compute one "
        "row in each thread.",
        unit="rows",
        rule=_BATCH_RULE,
        gt=0,
    )
    processes: int = param(
        "Processes on each machine. Each has its own threads, or its own GPU.",
        unit="processes",
        rule=_BATCH_RULE,
        gt=0,
    )
    nodes: int = param(
        "Machines that train one network together (docs/operations.md).",
        unit="machines",
        rule=_BATCH_RULE,
        gt=0,
    )
    optimizer: Literal["adamw", "muon"] = param(
        "`adamw`, or `muon` for the matrices inside blocks and AdamW for the rest."
    )
    learning_rate: float = param("Peak learning rate of AdamW.", gt=0)
    min_learning_rate: float = param(
        "Learning rate of the last step. Muon ends at the same share of its own peak.",
        rule="at most `learning_rate`",
        ge=0,
    )
    schedule: Literal["cosine", "linear", "wsd"] = param(
        "How the learning rate falls: `cosine`, `linear`, or `wsd`. `cosine` and `linear` fall "
        "from the warm-up to the last step. `wsd` stays at the peak, and falls along a line over "
        "the last `decay_steps`."
    )
    warmup_steps: int = param(
        "Steps over which the learning rate rises to its peak.",
        unit="steps",
        rule="below `max_steps`",
        ge=0,
    )
    decay_steps: int = param(
        "Last steps, over which `wsd` falls; other schedules ignore it.",
        unit="steps",
        rule="with `wsd`, `warmup_steps` + `decay_steps` is at most `max_steps`",
        gt=0,
    )
    weight_decay: float = param("Weight decay of matrices; biases and norms have none.", ge=0)
    beta1: float = param("AdamW's decay rate of the mean gradient.", ge=0, lt=1)
    beta2: float = param(
        "AdamW's decay rate of the mean squared gradient. Small batches need a longer memory, so a "
        "value nearer to 1.",
        ge=0,
        lt=1,
    )
    muon_learning_rate: float | None = param(
        "Peak learning rate of Muon; null takes `learning_rate`.", gt=0
    )
    muon_adjustment: Literal["original", "match_rms_adamw"] = param(
        "Muon's factor for the shape of a matrix: `original` or `match_rms_adamw`. `original` is "
        "√max(1, rows / columns). `match_rms_adamw` is 0.2 √max(rows, columns), with which AdamW's "
        "learning rate fits."
    )
    muon_momentum: float = param("Momentum of Muon.", ge=0, lt=1)
    muon_nesterov: bool = param("Whether Muon's momentum is Nesterov's.")
    muon_ns_steps: int = param(
        "Newton–Schulz iterations in a step of Muon.", unit="iterations", gt=0, lt=100
    )
    gradient_clip: float = param(
        "Greatest norm of a step's gradient. A longer gradient is scaled down to it.", gt=0
    )
    log_every: int = param("Steps between two rows of the training curve.", unit="steps", gt=0)
    validate_every: int = param(
        "Steps between two validations. There is one before the first step and one at each "
        "checkpoint as well.",
        unit="steps",
        gt=0,
    )
    validation_documents: int = param(
        "Held-out documents of a validation, spread over the validation split.",
        unit="documents",
        gt=0,
    )
    canary_documents: int = param(
        "Held-out documents whose loss each checkpoint states. The export must reproduce it.",
        unit="documents",
        gt=0,
    )
    state_every: int = param(
        "Steps between two saved states, from which a killed run resumes.",
        unit="steps",
        rule="a multiple of `log_every`",
        gt=0,
    )
    device: Literal["cpu", "cuda"] = param(
        "Where training computes: `cpu` or `cuda`.", rule="`cuda` needs `numerics.kernels: native`"
    )
    dtype: Literal["float32", "bfloat16"] = param(
        "Type of numbers in forward and backward pass: `float32` or `bfloat16`. Weights and AdamW "
        "stay in float32.",
        rule="`bfloat16` needs `numerics.kernels: native`",
    )
    compile: bool = param(
        "Whether torch.compile compiles the blocks, and in bfloat16 the loss.",
        rule="`true` needs `numerics.kernels: native`",
    )

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
