"""What tables and charts call the tasks and their figures, and which figures they show.

A task needs no entry: by default its name is its label, and its acc_norm and the bits per byte of
its true endings are compared and have a curve. Only `compare`, `curves` and `report` read this
module.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from model.tasks.table import Task


class Label(NamedTuple):
    """How one task is shown.

    `words`: its name in a sentence.
    `gpt2_acc_norm`: what OpenAI's gpt2 (124M) reaches by wording, drawn as a line.
    `has_bits_per_byte`: whether the true endings' bits per byte are a figure beside acc_norm.
    `has_text`: whether endings are text, whose bits per byte say something, and not letters.
    """

    words: str
    gpt2_acc_norm: Mapping[str, float] = MappingProxyType({})
    has_bits_per_byte: bool = True
    has_text: bool = True


LABELS = {
    "hellaswag": Label(
        "HellaSwag",
        # The reference script's is that of karpathy/build-nanogpt, hellaswag.py.
        gpt2_acc_norm={"reference": 0.2955, "lm_eval": 0.3114},
    ),
    # Its curve would be that of the validation loss.
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
# What follows a figure's name where the wording is a task's second.
_WORDINGS = {"reference": "reference script", "lm_eval": "lm-evaluation-harness"}


class TaskFigure(NamedTuple):
    """One figure of one task.

    `task` and `metric` are its keys in evaluation.json, `label` its name in comparisons and tables.
    `reference` is what OpenAI's gpt2 reaches. Without `has_curve`, as a second wording, it is
    compared only.
    """

    task: str
    metric: Literal["acc_norm", "gold_bits_per_byte"]
    label: str
    has_curve: bool
    reference: float | None = None

    @property
    def name(self) -> str:
        """Return the chart's name: plots/NAME.csv has the curve."""
        return f"{self.task}_{self.metric}"

    @property
    def is_accuracy(self) -> bool:
        return self.metric == "acc_norm"

    @property
    def unit(self) -> str:
        return "accuracy" if self.is_accuracy else "bits per byte"

    @property
    def title(self) -> str:
        """Return the title of the figure's chart."""
        return self.table_title if self.is_accuracy else f"{self.table_title}, {self.unit}"

    @property
    def table_title(self) -> str:
        """Return the title of the figure's table, which states the unit beside it."""
        return self.label[0].upper() + self.label[1:]


def label_of(task: Task) -> Label:
    return LABELS.get(task.items) or Label(task.items.replace("_", " "))


def _figures(task: Task) -> list[TaskFigure]:
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
    return f"{label_of(task).words}, true endings"


def task_figures(tasks: Iterable[Task]) -> list[TaskFigure]:
    """Return the figures of `tasks`, in their order."""
    return [figure for task in tasks for figure in _figures(task)]


# What tables call a set of problems, where that is not its name.
_PROBLEM_SETS = {"generated": "generated problems", "gsm8k": "GSM8K"}
# The rules that read a number from an answer (model/post_training/answer_reading.py).
RULES = {
    "strict": "strict",
    "flexible": "flexible",
    "strict_stated": "strict, facts stated",
    "flexible_stated": "flexible, facts stated",
}
COMPARED_RULES = ("strict", "flexible")
# The groups of products that are asked for (model/data/drills.py).
PRODUCT_GROUPS = {
    "seen": "seen",
    "held_out_pair": "held-out pair",
    "held_out_form": "held-out form",
}


def problem_set_words(name: str) -> str:
    return _PROBLEM_SETS.get(name) or name.replace("_", " ")
