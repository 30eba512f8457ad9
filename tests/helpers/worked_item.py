"""The item that docs/evaluation.md scores as an example, read from its table."""

import re
from typing import NamedTuple

from repository import REPOSITORY

from model.tasks.item_scores import ItemScore

_ROW = re.compile(
    r"^\| (true)? ?\| (.+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \|$",
    re.MULTILINE,
)


class WorkedItem(NamedTuple):
    """The document's section, the item's context and endings, and their scores.

    `quotients` are the nats per token and per character of each ending, as written.
    """

    section: str
    context: str
    endings: list[str]
    score: ItemScore
    quotients: list[tuple[str, str]]


def worked_item() -> WorkedItem:
    text = (REPOSITORY / "docs/evaluation.md").read_text()
    section = text.split("\n## How one item is scored\n")[1].split("\n## ")[0]
    [context] = re.findall(r"^> (.+) …$", section, flags=re.MULTILINE)
    rows = _ROW.findall(section)
    is_true, endings, nats, tokens, per_token, characters, per_character = zip(*rows, strict=True)
    lengths = [int(number) for number in characters]
    score = ItemScore(
        ind=0,
        source_id="",
        label=is_true.index("true"),
        nats=[float(number) for number in nats],
        tokens=[int(number) for number in tokens],
        characters=lengths,
        bytes=[length + 1 for length in lengths],  # ASCII, and the space before the ending
    )
    quotients = list(zip(per_token, per_character, strict=True))
    return WorkedItem(section, context, list(endings), score, quotients)
