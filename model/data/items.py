"""Multiple-choice items in HellaSwag's schema."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from common.errors import PipelineError
from common.sections import Section, validate
from model.data.record_text import Text, VisibleText, visible

_ENDINGS = 4


class Item(Section):
    """One item: `ctx` is what comes before, `endings` holds four continuations, `label` is the index of the true one.

    `source_id` names the video, article or document the item was made from: items that share it are one cluster. Endings
    are text and differ in both wordings of model/tasks/wordings.py, so exactly one of them is right.
    """

    ind: int
    activity_label: Text
    ctx_a: Text
    ctx_b: Text
    ctx: Text
    endings: list[Text]
    label: int = Field(ge=0, lt=_ENDINGS)
    source_id: VisibleText

    @field_validator("endings")
    @classmethod
    def _one_can_be_right(cls, endings: list[str]) -> list[str]:
        if len(endings) != _ENDINGS:
            raise ValueError(
                f"has {len(endings)}; an item has {_ENDINGS} endings, and no other number is supported"
            )
        cleaned = [without_brackets(ending) for ending in endings]
        for texts, where in (
            (endings, ""),
            (cleaned, " without what stands in brackets, as lm-evaluation-harness reads it"),
        ):
            seen: dict[str, int] = {}
            for number, text in enumerate(map(visible, texts)):
                if not text:
                    raise ValueError(f"{number} ({endings[number][:40]!r}) has no text{where}")
                if text in seen:
                    raise ValueError(
                        f"{seen[text]} and {number} ({endings[number][:40]!r}) are the same{where}"
                    )
                seen[text] = number
        return endings


def without_brackets(text: str) -> str:
    """Return `text` after lm-evaluation-harness's clean-up of HellaSwag, which takes out WikiHow's marks in brackets."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def read_items(path: Path, records: Iterable[dict[str, Any]]) -> list[Item]:
    """Return `records` as items; `label` may be a digit string, as the hub has it.

    Raises PipelineError naming the record: one that is no item, or the second with one text and source.
    """
    items = [
        _item(record, Path(f"{path}: record {number}")) for number, record in enumerate(records)
    ]
    first: dict[tuple[str, ...], int] = {}
    for number, item in enumerate(items):
        earlier = first.setdefault((item.source_id, *_text(item)), number)
        if earlier != number:
            raise PipelineError(
                f"{path}: record {number}: the same item as record {earlier}; keep one of them"
            )
    return items


def check_sources(key: str, items: list[Item]) -> None:
    """Raise PipelineError, which names `key` of params.yaml, unless the items have two sources."""
    if len({item.source_id for item in items}) < 2:
        raise PipelineError(
            f"{key}: {len(items)} items of one source ({items[0].source_id!r:.60}); intervals and comparisons resample "
            "sources and need at least two: add items, or give each source_id the source of its item"
        )


def count_repeated(items: list[Item]) -> int:
    """Return how many items repeat the text of one before them, under another `source_id`."""
    return len(items) - len({_text(item) for item in items})


def _item(record: dict[str, Any], where: Path) -> Item:
    if not isinstance(record, dict):  # of a line that no reader has looked at, tools/score.py's
        raise PipelineError(f"{where}: is no JSON object")
    missing = [name for name in Item.model_fields if name not in record]
    if missing:
        raise PipelineError(
            f"{where}: has no {', '.join(missing)}; items are read in HellaSwag's schema ({', '.join(Item.model_fields)})"
        )
    fields = {name: record[name] for name in Item.model_fields}
    label = fields["label"]
    if label in ("", -1, None):
        raise PipelineError(
            f"{where}: label: is not given ({label!r}), as in a test split; take the validation split"
        )
    if isinstance(label, str) and label in ("0", "1", "2", "3"):
        fields["label"] = int(label)
    try:
        return validate(fields, Item, where)
    except PipelineError as error:
        raise PipelineError(str(error).splitlines()[0]) from None


def _text(item: Item) -> tuple[str, ...]:
    return visible(item.ctx), *sorted(map(visible, item.endings))
