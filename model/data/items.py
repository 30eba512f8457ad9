"""Multiple-choice items, in HellaSwag's schema with what other tasks need besides."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from common.errors import PipelineError, printable
from common.files import read_jsonl
from common.sections import Section, validate
from model.data.record_text import Text, VisibleText, visible

_LEAST_ENDINGS = 2
# What HellaSwag's records have, and an item of it has to have.
_HELLASWAG = ("ind", "activity_label", "ctx_a", "ctx_b", "ctx", "endings", "label", "source_id")
_PARTS = ("activity_label", "ctx_a", "ctx_b")

# A record and its number as the fields of an item (model/sources/task_formats.py).
Fields = Callable[[dict[str, Any], int], dict[str, Any]]


class Item(Section):
    """One item: a context `ctx`, two or more `endings`, and `label`, the index of the true one.

    `options` follow the context, one for each ending, and are not scored: WinoGrande's, whose
    endings are one text. `activity_label`, `ctx_a` and `ctx_b` are HellaSwag's, whose second
    wording is made of them. `source_id` names the video, article or document that the item was made
    from; items that share it are one cluster.
    """

    ind: int
    activity_label: Text | None = None
    ctx_a: Text | None = None
    ctx_b: Text | None = None
    ctx: Text
    options: list[Text] | None = None
    endings: list[Text]
    label: int = Field(ge=0)
    source_id: VisibleText

    @field_validator("endings")
    @classmethod
    def _have_text(cls, endings: list[str], info: ValidationInfo) -> list[str]:
        if len(endings) < _LEAST_ENDINGS:
            raise ValueError(f"has {len(endings)}; an item has at least {_LEAST_ENDINGS} endings")
        options = info.data.get("options") or [""] * len(endings)
        if len(options) != len(endings):
            raise ValueError(f"has {len(endings)}, and options has {len(options)}; give one each")
        for readings, where in _readings(endings, info.data):
            for number, text in enumerate(readings):
                if not visible(text):
                    raise ValueError(f"{number} ({endings[number][:40]!r}) has no text{where}")
        return endings

    @field_validator("label")
    @classmethod
    def _is_an_ending(cls, label: int, info: ValidationInfo) -> int:
        count = len(info.data.get("endings", ()))
        if count and label >= count:
            raise ValueError(f"must be below {count}, the number of endings")
        return label

    def texts(self) -> list[tuple[str, list[str]]]:
        """Return the contexts with the endings that follow each."""
        if self.options is None:
            return [(self.ctx, self.endings)]
        contexts = [self.ctx + option for option in self.options]
        return [(text, [ending]) for text, ending in zip(contexts, self.endings, strict=True)]

    def row(self) -> dict[str, Any]:
        """Return the item as a line of a file has it."""
        return self.model_dump(exclude_none=True)


def _readings(endings: list[str], fields: Mapping[str, Any]) -> list[tuple[list[str], str]]:
    """Return the endings as each wording of model/tasks/wordings.py has them, and its words."""
    if fields.get("ctx_a") is None:
        return [(endings, "")]
    cleaned = [without_brackets(ending) for ending in endings]
    where = " without what stands in brackets, as lm-evaluation-harness reads it"
    return [(endings, ""), (cleaned, where)]


def without_brackets(text: str) -> str:
    """Return `text` without WikiHow's marks in brackets, as lm-evaluation-harness cleans it."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def read_items(
    path: Path,
    records: Iterable[dict[str, Any]],
    fields: Fields | None = None,
    as_published: bool = False,
) -> list[Item]:
    """Return `records` as items: in HellaSwag's schema, or as `fields` makes items of them.

    Raises PipelineError naming the first record that is not an item. One whose endings are not all
    different, or that repeats the text and source of an earlier one, is refused too, but for a
    benchmark that is taken `as_published`, as others score it.
    """
    items = [
        _item(record, number, Path(f"{path}: record {number}"), fields or hellaswag_fields)
        for number, record in enumerate(records)
    ]
    if as_published:
        return items
    first: dict[tuple[str, ...], int] = {}
    for number, item in enumerate(items):
        _require_different(item, f"{path}: record {number}")
        earlier = first.setdefault((item.source_id, *_text(item)), number)
        if earlier != number:
            raise PipelineError(
                f"{path}: record {number}: the same item as record {earlier}; keep one of them"
            )
    return items


def _require_different(item: Item, where: str) -> None:
    """Raise PipelineError if two endings are the same in a wording, so that neither is right."""
    options = item.options or [""] * len(item.endings)
    for texts, how in _readings(item.endings, item.__dict__):
        seen: dict[tuple[str, str], int] = {}
        for number, (option, text) in enumerate(zip(options, texts, strict=True)):
            earlier = seen.setdefault((visible(option), visible(text)), number)
            if earlier != number:
                raise PipelineError(
                    f"{where}: endings: {earlier} and {number} ({item.endings[number][:40]!r}) are "
                    f"the same{how}"
                )


def read_stored_items(path: Path) -> list[Item]:
    """Return the items of a file that `fetch` or `items` wrote, a line each."""
    rows = read_jsonl(path)
    return [validate(row, Item, Path(f"{path}: record {n}")) for n, row in enumerate(rows)]


def check_sources(key: str, items: list[Item]) -> None:
    """Raise PipelineError, which begins with `key`, unless the items have two sources."""
    if len({item.source_id for item in items}) < 2:
        raise PipelineError(
            f"{key}: {len(items)} items of one source ({items[0].source_id!r:.60}); intervals and "
            "comparisons resample sources and need at least two: add items, or give each source_id "
            "the source of its item"
        )


def count_repeated(items: list[Item]) -> int:
    """Return the number of items that repeat an earlier one's text."""
    return len(items) - len({_text(item) for item in items})


def hellaswag_fields(record: dict[str, Any], _: int) -> dict[str, Any]:
    """Return the fields of a record in HellaSwag's schema; others are left out."""
    # An item of another task lacks the parts, so validation would let null pass.
    nulls = {name for name in _PARTS if record.get(name) is None}
    missing = [name for name in _HELLASWAG if name not in record or name in nulls]
    if missing:
        raise ValueError(
            f"has no {', '.join(missing)}; items are read in HellaSwag's schema "
            f"({', '.join(_HELLASWAG)})"
        )
    return {name: record[name] for name in _HELLASWAG}


def _item(record: dict[str, Any], number: int, where: Path, make: Fields) -> Item:
    if not isinstance(record, dict):  # tools/score.py passes lines of a user's file
        raise PipelineError(f"{where}: is no JSON object")
    try:
        fields = make(record, number)
    except ValueError as error:
        raise PipelineError(f"{where}: {printable(str(error))}") from None
    label = fields["label"]
    if label in ("", -1, None):
        raise PipelineError(
            f"{where}: label: is not given ({label!r}), as in a test split; "
            "take the validation split"
        )
    # The hub's HellaSwag has a digit. Python converts no text of more than 4,300 digits.
    if isinstance(label, str) and re.fullmatch("[0-9]{1,9}", label):
        fields["label"] = int(label)
    try:
        return validate(fields, Item, where)
    except PipelineError as error:
        raise PipelineError(str(error).splitlines()[0]) from None


def _text(item: Item) -> tuple[str, ...]:
    texts = sorted(
        f"{visible(text)}\0{visible(end)}" for text, ends in item.texts() for end in ends
    )
    return tuple(texts)
