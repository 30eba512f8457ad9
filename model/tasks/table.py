"""The table of tasks: what every exported checkpoint answers. A new task is an entry here.

`items` selects the items, `evaluate` scores them, `compare` and `curves` show every task of this
table, so its curve, its rows in the tables, its comparison and its chart in the report follow.
model/tasks/labels.py says what they are called, where that is not the task's name: a module of its
own, so that a new title reruns no evaluation.
"""

from typing import Literal, NamedTuple


class Task(NamedTuple):
    """One task of multiple-choice items in HellaSwag's schema (model/data/items.py).

    `name`: its key in evaluation.json, and its file scores/…/NAME.jsonl.
    `items`: the module of model/tasks/item_selection/ that selects its items, and their file
    data/items/ITEMS.jsonl. Tasks may share items.
    `wording`: how an item becomes text, a key of WORDINGS in model/tasks/wordings.py.
    """

    name: str
    items: str
    wording: Literal["reference", "lm_eval"] = "reference"


TASKS = (
    Task("hellaswag", items="hellaswag"),
    Task("hellaswag_lm_eval", items="hellaswag", wording="lm_eval"),
    Task("continuation", items="continuation"),
)
