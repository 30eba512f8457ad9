"""One task in one wording, as files name it."""

from typing import NamedTuple

LISTED = "tasks.json"  # below data/items: every task that is asked


class Task(NamedTuple):
    """One task in one wording.

    `name`: its key in evaluation.json, and its file scores/…/NAME.jsonl.
    `items`: its key in params.yaml, and its items' file data/items/ITEMS.jsonl.
    `wording`: how an item becomes text, a key of WORDINGS in model/tasks/wordings.py.
    """

    name: str
    items: str
    wording: str

    @property
    def is_first(self) -> bool:
        """Whether this is the wording that stands for the task."""
        return self.name == self.items
