"""Names of tasks and figures in tables and charts, and which figures are shown.

A task needs no entry here. By default its label is its name, and two figures are compared and drawn
as curves: acc_norm and the bits per byte of its true endings. Only the stages `compare`, `curves`
and `report` read this module, so an edit reruns no training or scoring.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from model.tasks.table import Task


class Label(NamedTuple):
    """How one task is shown."""

    # Its name in a sentence.
    words: str
    # acc_norm of OpenAI's gpt2 (124M) for each wording, drawn as a line in the charts.
    gpt2_acc_norm: Mapping[str, float] = MappingProxyType({})
    # Whether the true endings' bits per byte are a figure beside acc_norm.
    has_bits_per_byte: bool = True
    # False where endings are letters such as "A": their bits per byte mean nothing.
    has_text: bool = True


LABELS = {
    "hellaswag": Label(
        "HellaSwag",
        # Source of the reference script's: karpathy/build-nanogpt, hellaswag.py.
        gpt2_acc_norm={"reference": 0.2955, "lm_eval": 0.3114},
    ),
    # Bits per byte of held-out text would repeat the curve of the validation loss.
    "continuation": Label("continuation", has_bits_per_byte=False),
    "arc_easy": Label("ARC easy"),
    "arc_challenge": Label("ARC challenge"),
    "piqa": Label("PIQA"),
    "winogrande": Label("WinoGrande"),
    "openbookqa": Label("OpenBookQA"),
    "social_iqa": Label("Social IQa"),
    "commonsense_qa": Label("CommonsenseQA", has_bits_per_byte=False, has_text=False),
    "copa": Label("COPA"),
}
# Added to a figure's name if its wording is not the task's first: "HellaSwag acc_norm,
# lm-evaluation-harness".
_WORDINGS = {"reference": "reference script", "lm_eval": "lm-evaluation-harness"}


class TaskFigure(NamedTuple):
    """One figure of one task."""

    # Its keys in evaluation.json.
    task: str
    metric: Literal["acc_norm", "gold_bits_per_byte"]
    # Its name in comparisons and tables.
    label: str
    # False for a task's second wording: the figure is compared but not drawn.
    has_curve: bool
    # The value of OpenAI's gpt2, where it is known.
    reference: float | None = None

    @property
    def name(self) -> str:
        """Return the chart's name; plots/NAME.csv holds the curve."""
        return f"{self.task}_{self.metric}"

    @property
    def is_accuracy(self) -> bool:
        """True for acc_norm, False for bits per byte."""
        return self.metric == "acc_norm"

    @property
    def unit(self) -> str:
        """Return the label of the chart's y axis."""
        return "accuracy" if self.is_accuracy else "bits per byte"

    @property
    def title(self) -> str:
        """Return the title of the figure's chart."""
        return self.table_title if self.is_accuracy else f"{self.table_title}, {self.unit}"

    @property
    def table_title(self) -> str:
        """Return the title of the figure's table, which states the unit beside it."""
        # Not capitalize(), which would make "HellaSwag" "Hellaswag".
        return self.label[0].upper() + self.label[1:]


def label_of(task: Task) -> Label:
    """Return the task's entry in LABELS, or one made from its name."""
    return LABELS.get(task.items) or Label(task.items.replace("_", " "))


def _figures(task: Task) -> list[TaskFigure]:
    """Return the task's acc_norm, and its bits per byte if its label asks for them."""
    label = label_of(task)
    suffix = "" if task.is_first else f", {_WORDINGS[task.wording]}"
    accuracy = f"{label.words} acc_norm{suffix}"
    gpt2 = label.gpt2_acc_norm.get(task.wording)
    figures = [TaskFigure(task.name, "acc_norm", accuracy, task.is_first, gpt2)]
    if label.has_bits_per_byte and task.is_first:
        bits = true_endings_words(task)
        figures.append(TaskFigure(task.name, "gold_bits_per_byte", bits, task.is_first))
    return figures


def true_endings_words(task: Task) -> str:
    """Return the label of the true endings' bits per byte: "PIQA, true endings"."""
    return f"{label_of(task).words}, true endings"


def task_figures(tasks: Iterable[Task]) -> list[TaskFigure]:
    """Return the figures of `tasks`, in their order."""
    return [figure for task in tasks for figure in _figures(task)]


# Words for a set of problems in tables, where they are not its name.
_PROBLEM_SETS = {"generated": "generated problems", "gsm8k": "GSM8K"}
# The rules that read a number from an answer (model/post_training/answer_reading.py).
RULES = {
    "strict": "strict",
    "flexible": "flexible",
    "strict_stated": "strict, facts stated",
    "flexible_stated": "flexible, facts stated",
}
COMPARED_RULES = ("strict", "flexible")
# The groups of products that `probes` asks for (model/data/drills.py).
PRODUCT_GROUPS = {
    "seen": "seen",
    "held_out_pair": "held-out pair",
    "held_out_form": "held-out form",
}


def problem_set_words(name: str) -> str:
    """Return the words for a set of problems in tables."""
    return _PROBLEM_SETS.get(name) or name.replace("_", " ")
