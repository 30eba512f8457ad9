"""The one table of charts.

An entry is all that is said of a chart. Made from it: its panel in a PNG (model/curves/panels.py),
the report's chart (model/report/figures.py), and what `dvc plots` draws (plots/dvc.yaml and the
templates, both written by tools/generated/dvc_plots.py).
"""

from typing import Literal, NamedTuple

from model.tasks.labels import TASK_FIGURES

# How far training is, in three ways; a chart against each is drawn from the same rows.
X_LABELS = {
    "step": "training steps",
    "tokens": "training tokens",
    "original_bytes": "bytes of original text read",
}


class Chart(NamedTuple):
    """One chart; plots/FILE has its data.

    `y_label` says what is measured, and its unit. `stage` is the one that measures it.
    `x`: columns that it is drawn against, the default first; `y`: the column that is drawn.
    `log_x`: a logarithmic axis of tokens spreads its points, which are checkpoints.
    `log_y`: its values differ by orders of magnitude.
    `is_accuracy`: it has 95 % intervals and a line at chance.
    `reference`: a line at what OpenAI's gpt2 reaches.
    `is_fitted`: pages leave out the first tenth of training, PNGs fit their axes to the rest.
    `is_shared`: the curve is the same in every condition.
    `table_title`: the title of its results table; without one it has none.
    """

    name: str
    title: str
    y_label: str
    stage: str
    x: tuple[str, ...] = ("tokens",)
    y: str = "value"
    shape: Literal["curve", "bars", "differences"] = "curve"
    log_x: bool = False
    log_y: bool = False
    is_accuracy: bool = False
    reference: float | None = None
    is_fitted: bool = False
    is_shared: bool = False
    table_title: str | None = None

    @property
    def file(self) -> str:
        """Return the path of its data below plots/; curves share a folder, one output of
        `curves`.
        """
        return f"curves/{self.name}.csv" if self.shape == "curve" else f"{self.name}.csv"

    def x_label(self, x: str) -> str:
        return X_LABELS.get(x, self.y_label)

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the columns of its CSV that are lines across it."""
        has = {
            "chance": self.is_accuracy,
            "gpt2": self.reference is not None,
            "tolerance": self.name == "parity",
        }
        return tuple(column for column, is_drawn in has.items() if is_drawn)


BY_ALL = ("tokens", "step", "original_bytes")  # of X_LABELS, as a reader chooses
_TRAINING = (
    Chart(
        "loss",
        "Loss, on its own tokens",
        "nats per token",
        "pretrain",
        x=BY_ALL,
        is_fitted=True,
    ),
    Chart(
        "bits_per_byte",
        "Bits per byte, validation on natural text",
        "bits per byte",
        "pretrain",
        x=BY_ALL,
        is_fitted=True,
        table_title="Validation, natural text",
    ),
    Chart("gradient_norm", "Gradient norm, before clipping", "norm", "pretrain", x=("step",)),
    Chart(
        "learning_rate",
        "Learning rate, of every condition",
        "learning rate",
        "pretrain",
        x=("step",),
        is_shared=True,
    ),
    Chart("sft_loss", "Fine-tuning loss, on its own tokens", "nats per token", "sft", x=("step",)),
)
# A task of model/tasks/table.py has its charts here.
TASK_CHARTS = tuple(
    Chart(
        figure.name,
        figure.title,
        figure.unit,
        "evaluate",
        log_x=True,
        is_accuracy=figure.is_accuracy,
        reference=figure.reference,
        table_title=figure.table_title,
    )
    for figure in TASK_FIGURES
    if figure.has_curve
)
PARITY = Chart(
    "parity",
    "Parity of export and checkpoint",
    "largest difference of two logits",
    "export",
    log_x=True,
    log_y=True,
)
USAGE = Chart(
    "fact_usage",
    "Multiplication facts as tokens",
    "share that is facts",
    "curves",
    x=("share",),
    y="where",
    shape="bars",
)
DIFFERENCES = Chart(
    "differences",
    "Differences of the conditions",
    "difference from the first condition",
    "compare",
    x=("difference",),
    y="figure",
    shape="differences",
)

CURVES = (*_TRAINING, *TASK_CHARTS, PARITY)
CHARTS = {chart.name: chart for chart in (*CURVES, USAGE, DIFFERENCES)}
