"""Conversations for fine-tuning and problems to ask, in the form that stages exchange."""

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from common.errors import PipelineError
from common.files import read_jsonl
from common.sections import Section
from model.data.record_text import VisibleText

Kept = TypeVar("Kept", bound=Section)


class Message(Section):
    """One message of a conversation; it has visible text."""

    role: Literal["system", "user", "assistant"]
    content: VisibleText


class Conversation(Section):
    """Messages in order, at least one of them the assistant's; training learns those.

    `source` is the conversation's source in params.yaml.
    """

    source: str
    messages: list[Message]

    @field_validator("messages")
    @classmethod
    def _has_an_answer(cls, messages: list[Message]) -> list[Message]:
        if not any(message.role == "assistant" for message in messages):
            raise ValueError("none is the assistant's")
        return messages


class Question(Section):
    """A problem and its solution, which ends in `#### answer`."""

    question: VisibleText
    answer: VisibleText


class AskedQuestion(Question):
    """A question that the model answers. Questions of one `cluster` are not independent.

    A model that can answer one of a cluster can answer the others, so intervals resample clusters.
    """

    cluster: str = Field(min_length=1)


def read_kept(path: Path, kind: type[Kept]) -> list[Kept]:
    """Return the rows of a JSON lines file of a checksummed directory as `kind`.

    Raises PipelineError, which names file and record, for a row that is not of that kind.
    """
    found: list[Kept] = []
    try:
        for row in read_jsonl(path):
            # `**row` raises TypeError for a line that is not an object.
            found.append(kind(**row))
    except (TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(
            f"{path}: record {len(found)} is no {kind.__name__} ({reason}); run dvc repro"
        ) from None
    return found


def two_turns(source: str, question: str, answer: str) -> Conversation:
    """Return a conversation of one question and its answer."""
    return Conversation(
        source=source,
        messages=[
            Message(role="user", content=question),
            Message(role="assistant", content=answer),
        ],
    )
