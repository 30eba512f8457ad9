"""The tasks that params.yaml lists."""

from model.params.tasks import Tasks
from model.tasks.table import Task


def listed(tasks: Tasks) -> list[Task]:
    """Return the tasks of params.yaml in order; each wording is a task of its own.

    hellaswag with wordings [reference, lm_eval] gives two tasks: `hellaswag`, worded as in the
    reference script, and `hellaswag_lm_eval`.
    """
    return [
        Task(f"{name}_{wording}" if place else name, name, wording)
        for name, params in tasks.items()
        for place, wording in enumerate(params.wordings)
    ]
