"""The one table of charts. Charts of tasks follow from the tasks that params.yaml lists.

Everything that draws a chart reads its entry here:

- model/curves/panels.py, for its panel in a PNG
- model/report/figures.py, for the report's chart
- tools/generated/dvc_plots.py, which writes plots/dvc.yaml and the templates of `dvc plots`
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from model.tasks.labels import task_figures
from model.tasks.table import Task

# Three measures of progress in training, as columns of a chart's CSV with the labels of their axes.
X_LABELS = {
    "step": "training steps",
    "tokens": "training tokens",
    "original_bytes": "bytes of original text read",
}


class Chart(NamedTuple):
    """One chart; plots/FILE has its data."""

    name: str
    title: str
    # What is measured, or its unit: the label of the y axis.
    y_label: str
    # The stage that measures it.
    stage: str
    # Columns that it can be drawn against, the default first; and the column that is drawn.
    x: tuple[str, ...] = ("tokens",)
    y: str = "value"
    shape: Literal["curve", "bars", "differences", "paired"] = "curve"
    # A logarithmic axis of tokens, which spreads the checkpoints.
    log_x: bool = False
    # Values differ by orders of magnitude.
    log_y: bool = False
    # It has 95 % intervals and a line at chance.
    is_accuracy: bool = False
    # A line at the value of OpenAI's gpt2.
    reference: float | None = None
    # Pages leave out the first tenth of training; PNGs fit the y axis to the rest.
    is_fitted: bool = False
    # Conditions may have the same curve, which is then drawn so that all of them show.
    may_coincide: bool = False
    # Its name among the comparisons. Paired differences are drawn below its curve.
    compared: str = ""
    # The title of its results table; None for no table.
    table_title: str | None = None

    @property
    def file(self) -> str:
        """Return the path of its data below plots/.

        Curves share a folder, which is one output of the stage `curves`.
        """
        is_curve = self.shape in ("curve", "paired")
        return f"curves/{self.name}.csv" if is_curve else f"{self.name}.csv"

    def x_label(self, x: str) -> str:
        """Return the label of the x axis if the chart is drawn against column `x`."""
        return X_LABELS.get(x, self.y_label)

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the columns of its CSV that are drawn as lines across the chart."""
        has = {
            "chance": self.is_accuracy,
            "gpt2": self.reference is not None,
            "tolerance": self.name == "parity",
        }
        return tuple(column for column, is_drawn in has.items() if is_drawn)


# The name of the held-out documents' loss among the comparisons.
VALIDATION = "validation"
# Charts whose reader can choose among all of X_LABELS.
BY_ALL = ("tokens", "step", "original_bytes")
# The curves of pretraining and fine-tuning.
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
# The paired differences of all charts that are compared, at each step with held-out figures.
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
    """Return a chart for each figure of `tasks` that has a curve."""
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
