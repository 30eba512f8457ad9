"""Multiple-choice items, in HellaSwag's schema extended by what other tasks need."""

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
# The fields of HellaSwag's records, all of which an item of HellaSwag needs.
_HELLASWAG = ("ind", "activity_label", "ctx_a", "ctx_b", "ctx", "endings", "label", "source_id")
_PARTS = ("activity_label", "ctx_a", "ctx_b")

# Maps a record and its number to the fields of an item (model/sources/task_formats.py).
Fields = Callable[[dict[str, Any], int], dict[str, Any]]


class Item(Section):
    """One item: a context `ctx`, two or more `endings`, and `label`, the index of the true one.

    `options` follow the context, one for each ending, and are not scored. WinoGrande has them: its
    options differ and its endings are one text,

        ctx `The cup fits the bag since the `   options `cup`, `bag`   endings `is small.` twice

    `activity_label`, `ctx_a` and `ctx_b` are HellaSwag's; its second wording uses them. `source_id`
    names the video, article or document that the item was made from. Items that share it are one
    cluster.
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
        # Without options, only the number of endings is checked.
        options = info.data.get("options") or [""] * len(endings)
        if len(options) != len(endings):
            raise ValueError(f"has {len(endings)}, and options has {len(options)}; give one each")
        # Both wordings: an ending may be all brackets, and empty without them.
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
        """Return each context with the endings that follow it: one context, or one per option."""
        if self.options is None:
            return [(self.ctx, self.endings)]
        contexts = [self.ctx + option for option in self.options]
        return [(text, [ending]) for text, ending in zip(contexts, self.endings, strict=True)]

    def row(self) -> dict[str, Any]:
        """Return the item as a JSON lines file stores it, without fields that it lacks."""
        return self.model_dump(exclude_none=True)


def _readings(endings: list[str], fields: Mapping[str, Any]) -> list[tuple[list[str], str]]:
    """Return the endings in each wording of model/tasks/wordings.py, with words for messages."""
    if fields.get("ctx_a") is None:
        return [(endings, "")]
    cleaned = [without_brackets(ending) for ending in endings]
    where = " without what stands in brackets, as lm-evaluation-harness reads it"
    return [(endings, ""), (cleaned, where)]


def without_brackets(text: str) -> str:
    """Return `text` without WikiHow's marks in brackets, as lm-evaluation-harness cleans it.

    ` Wash it. [title] Dry it. [step] Use a towel.` becomes `Wash it.. Dry it. Use a towel.`
    """
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def read_items(
    path: Path,
    records: Iterable[dict[str, Any]],
    fields: Fields | None = None,
    as_published: bool = False,
) -> list[Item]:
    """Return `records` as items, in HellaSwag's schema or as `fields` converts them.

    Raises PipelineError for the first record that is not an item. Unless the benchmark is taken
    `as_published`, as others score it, that includes a record with two equal endings, and one that
    repeats the text and source of an earlier record.
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
        # The number of the first record with this text and source: its own if there is none before.
        earlier = first.setdefault((item.source_id, *_text(item)), number)
        if earlier != number:
            raise PipelineError(
                f"{path}: record {number}: the same item as record {earlier}; keep one of them"
            )
    return items


def _require_different(item: Item, where: str) -> None:
    """Raise PipelineError if two endings are the same in a wording: neither would be right."""
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
    """Return the items of a JSON lines file that the stage `fetch` or `items` wrote."""
    rows = read_jsonl(path)
    return [validate(row, Item, Path(f"{path}: record {n}")) for n, row in enumerate(rows)]


def check_sources(key: str, items: list[Item]) -> None:
    """Raise PipelineError, which begins with `key`, unless the items have two or more sources."""
    if len({item.source_id for item in items}) < 2:
        raise PipelineError(
            f"{key}: {len(items)} items of one source ({items[0].source_id!r:.60}); intervals and "
            "comparisons resample sources and need at least two: add items, or give each source_id "
            "the source of its item"
        )


def count_repeated(items: list[Item]) -> int:
    """Return how many items have the text of an earlier one."""
    return len(items) - len({_text(item) for item in items})


def hellaswag_fields(record: dict[str, Any], _: int) -> dict[str, Any]:
    """Return the fields of HellaSwag's schema of a record; raise ValueError if one is missing."""
    # Items of other tasks have no parts, so Item allows null there. HellaSwag's must not be null.
    nulls = {name for name in _PARTS if record.get(name) is None}
    missing = [name for name in _HELLASWAG if name not in record or name in nulls]
    if missing:
        raise ValueError(
            f"has no {', '.join(missing)}; items are read in HellaSwag's schema "
            f"({', '.join(_HELLASWAG)})"
        )
    return {name: record[name] for name in _HELLASWAG}


def _item(record: dict[str, Any], number: int, where: Path, make: Fields) -> Item:
    """Return a record as an item; raise PipelineError of one line, which begins with `where`."""
    # tools/score.py passes the lines of a user's file.
    if not isinstance(record, dict):
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
    # The hub's HellaSwag has labels like "3". Python refuses to convert texts of more than 4,300
    # digits, and no label needs more than nine.
    if isinstance(label, str) and re.fullmatch("[0-9]{1,9}", label):
        fields["label"] = int(label)
    try:
        return validate(fields, Item, where)
    except PipelineError as error:
        raise PipelineError(str(error).splitlines()[0]) from None


def _text(item: Item) -> tuple[str, ...]:
    """Return what identifies an item's text: its visible contexts and endings, in any order."""
    texts = sorted(
        f"{visible(text)}\0{visible(end)}" for text, ends in item.texts() for end in ends
    )
    return tuple(texts)
