"""One task in one wording, as files name it."""

from typing import NamedTuple

# Below data/items: the list of every task that is asked.
LISTED = "tasks.json"


class Task(NamedTuple):
    """One task in one wording."""

    # Its key in evaluation.json, and its file scores/…/NAME.jsonl.
    name: str
    # Its key in params.yaml, and its items' file data/items/ITEMS.jsonl.
    items: str
    # How an item becomes text: a key of WORDINGS in model/tasks/wordings.py.
    wording: str

    @property
    def is_first(self) -> bool:
        """True for the task's first wording, whose name is the task's."""
        return self.name == self.items
