"""What tables and charts call the tasks and their figures, and which figures they show.

A task needs no entry: by default its name is its label, and its acc_norm is compared and has a
curve. Only `compare`, `curves` and `report` read this module.
"""

from typing import Literal, NamedTuple

from model.tasks.table import TASKS

# An item has four endings, one of them true.
CHANCE = 0.25


class Label(NamedTuple):
    """How one task is shown.

    `words`: its name in a sentence; `suffix` follows the figure's name.
    `gpt2_acc_norm`: what OpenAI's gpt2 (124M) reaches, drawn as a line.
    `has_curves`: False for a task that is compared only.
    `has_bits_per_byte`: whether the true endings' bits per byte are a figure beside acc_norm.
    """

    words: str
    suffix: str = ""
    gpt2_acc_norm: float | None = None
    has_curves: bool = True
    has_bits_per_byte: bool = False


LABELS = {
    "hellaswag": Label(
        "HellaSwag",
        # Under the reference script: karpathy/build-nanogpt, hellaswag.py.
        gpt2_acc_norm=0.2955,
        has_bits_per_byte=True,
    ),
    "hellaswag_lm_eval": Label("HellaSwag", ", lm-evaluation-harness", has_curves=False),
}


class TaskFigure(NamedTuple):
    """One figure of one task.

    `task` and `metric` are its keys in evaluation.json, `label` its name in comparisons and tables.
    `reference` is what OpenAI's gpt2 reaches. Without `has_curve` it is compared only.
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


def label_of(task: str) -> Label:
    return LABELS.get(task) or Label(task.replace("_", " "))


def _figures(task: str) -> list[TaskFigure]:
    label = label_of(task)
    accuracy = f"{label.words} acc_norm{label.suffix}"
    figures = [
        TaskFigure(task, "acc_norm", accuracy, label.has_curves, label.gpt2_acc_norm),
    ]
    if label.has_bits_per_byte:
        true_endings = f"{label.words}, true endings{label.suffix}"
        figures.append(TaskFigure(task, "gold_bits_per_byte", true_endings, label.has_curves))
    return figures


# In the order of the table of tasks.
TASK_FIGURES = tuple(figure for task in TASKS for figure in _figures(task.name))

# What the fine-tuned models' answers are called: sets of problems, where that is not the set's name.
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
