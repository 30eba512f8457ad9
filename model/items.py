"""Multiple-choice items in HellaSwag's schema."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, model_validator

from model.errors import PipelineError
from model.section import Section


class Item(Section):
    """One item: `ctx` is what comes before, `endings` holds four continuations, `label` is the index of the true one.

    `source_id` names the video, article or document the item was made from: items that share it are one cluster.
    """

    ind: int
    activity_label: str
    ctx_a: str
    ctx_b: str
    ctx: str
    endings: list[str] = Field(min_length=4, max_length=4)
    label: int = Field(ge=0, le=3)
    source_id: str

    @model_validator(mode="after")
    def _endings_have_text(self):
        if not all(self.endings):
            raise ValueError("an ending is empty")
        return self


def read_items(path: Path, records: Iterable[dict[str, Any]]) -> list[Item]:
    """Return `records` as items; `label` may be a digit string, as the hub has it. Raises PipelineError naming the record."""
    items = []
    for number, record in enumerate(records):
        fields = {name: record[name] for name in Item.model_fields if name in record}
        if fields.get("label") in ("0", "1", "2", "3"):
            fields["label"] = int(fields["label"])
        try:
            items.append(Item(**fields))
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            raise PipelineError(f"{path}: record {number}: {place} {fault['msg']}") from None
    return items
