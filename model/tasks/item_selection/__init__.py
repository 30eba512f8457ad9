"""Which items a task asks: a module for each file of data/items, which defines `select`.

    def select(sources: Sources, params: ItemsParams) -> list[Item]

`items` imports each module that the table of tasks (model/tasks/table.py) names. No other stage
depends on this folder, so an edit here reruns `items`, and what follows only if the items change.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from model.data.documents import Document
from model.data.items import Item


class Sources(NamedTuple):
    """What items are made of, each read anew by every call.

    `hellaswag` returns HellaSwag's items in their original order, `held_out` the held-out documents
    of natural text in the corpus's order.
    """

    hellaswag: Callable[[], list[Item]]
    held_out: Callable[[], Iterable[Document]]
