"""The one table of charts; those of tasks follow from the tasks that params.yaml lists.

An entry is all that is said of a chart. Made from it: its panel in a PNG (model/curves/panels.py),
the report's chart (model/report/figures.py), and what `dvc plots` draws (plots/dvc.yaml and the
templates, both written by tools/generated/dvc_plots.py).
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from model.tasks.labels import task_figures
from model.tasks.table import Task

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
    `may_coincide`: curves of conditions may be the same, and are drawn so that all are seen.
    `compared`: its name among the comparisons; below its curve the paired differences are drawn.
    `table_title`: the title of its results table; without one it has none.
    """

    name: str
    title: str
    y_label: str
    stage: str
    x: tuple[str, ...] = ("tokens",)
    y: str = "value"
    shape: Literal["curve", "bars", "differences", "paired"] = "curve"
    log_x: bool = False
    log_y: bool = False
    is_accuracy: bool = False
    reference: float | None = None
    is_fitted: bool = False
    may_coincide: bool = False
    compared: str = ""
    table_title: str | None = None

    @property
    def file(self) -> str:
        """Return the path of its data below plots/; curves share a folder, one output of
        `curves`.
        """
        is_curve = self.shape in ("curve", "paired")
        return f"curves/{self.name}.csv" if is_curve else f"{self.name}.csv"

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


# What `compare` calls the loss of the held-out documents.
VALIDATION = "validation"
BY_ALL = ("tokens", "step", "original_bytes")  # of X_LABELS, as a reader chooses
TRAINING = (
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
        compared=VALIDATION,
        table_title="Validation, natural text",
    ),
    Chart("gradient_norm", "Gradient norm, before clipping", "norm", "pretrain", x=("step",)),
    Chart(
        "learning_rate",
        "Learning rate, AdamW's",
        "learning rate",
        "pretrain",
        x=("step",),
        may_coincide=True,
    ),
    Chart("sft_loss", "Fine-tuning loss, on its own tokens", "nats per token", "sft", x=("step",)),
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
# The paired differences of the charts that have them, at each step that is held out.
PAIRED = Chart(
    "paired",
    "Paired differences over training",
    "difference from the first condition",
    "compare",
    y="difference",
    shape="paired",
    log_x=True,
)


def task_charts(tasks: Iterable[Task]) -> list[Chart]:
    return [
        Chart(
            figure.name,
            figure.title,
            figure.unit,
            "evaluate",
            log_x=True,
            is_accuracy=figure.is_accuracy,
            reference=figure.reference,
            compared=figure.label,
            table_title=figure.table_title,
        )
        for figure in task_figures(tasks)
        if figure.has_curve
    ]


def curves_of(tasks: Iterable[Task]) -> list[Chart]:
    """Return the charts with learning curves, in the report's order."""
    return [*TRAINING, *task_charts(tasks), PARITY]


def charts_of(tasks: Iterable[Task]) -> dict[str, Chart]:
    """Return all charts by their names."""
    return {chart.name: chart for chart in (*curves_of(tasks), PAIRED, USAGE, DIFFERENCES)}
