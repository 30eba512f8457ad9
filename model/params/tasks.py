"""The `tasks` section: which multiple-choice tasks every checkpoint answers."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from common.sections import Section, param

# An interval and a comparison need two clusters of items, so at least two items.
_LEAST_ITEMS = 2

# The task that is made from the corpus's held-out documents. The others have their items from the
# source of the same name below `fetch.tasks`.
CONTINUATION = "continuation"

Wording = Literal["reference", "lm_eval"]


def _is_a_number_or_all(value: object) -> object:
    if value != "all" and not (type(value) is int and value >= _LEAST_ITEMS):
        raise ValueError(f"must be all, or a whole number of at least {_LEAST_ITEMS}")
    return value


class TaskParams(Section):
    """One task."""

    asked: Annotated[int | Literal["all"], BeforeValidator(_is_a_number_or_all)] = param(
        "Items that are asked, drawn by `items.seed`; `all` takes every item.",
        unit="items",
        rule=f"`all`, or from {_LEAST_ITEMS} to `fetch.tasks.NAME.count`; of "
        "`continuation`, as many as the corpus gives",
    )
    wordings: list[Wording] = param(
        "How items are asked (docs/evaluation.md). The first wording has the task's name, and "
        "curves show it. Each further one is a second measurement.",
        rule="no wording twice",
        min_length=1,
    )

    @field_validator("wordings")
    @classmethod
    def _differ(cls, wordings: list[Wording]) -> list[Wording]:
        if len(set(wordings)) != len(wordings):
            raise ValueError(f"{wordings} names one of them twice")
        return wordings


# They name files and keys of metrics.
TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Tasks = Annotated[dict[TaskName, TaskParams], Field(min_length=1)]
