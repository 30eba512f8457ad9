"""Conversations to fine-tune on: messages with roles, read from GSM8K's records or from chats as Tulu 3 has them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from model.errors import PipelineError
from model.files import read_jsonl
from model.gsm8k import without_calculations
from model.section import Section, validate

Kept = TypeVar("Kept", bound=Section)


class Message(Section):
    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1)


class Conversation(Section):
    """Messages in order; what the assistant says is what is learned. `source` is the name it has in params.yaml."""

    source: str
    messages: list[Message]

    @model_validator(mode="after")
    def _has_an_answer(self):
        if not any(message.role == "assistant" for message in self.messages):
            raise ValueError("no message is the assistant's")
        return self


class Question(Section):
    """A problem and its solution, which ends in `#### answer`."""

    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)


class AskedQuestion(Question):
    """One to be asked; who can answer one of a `cluster` can answer the others."""

    cluster: str = Field(min_length=1)


def read_questions(name: str, records: Iterable[dict[str, Any]]) -> list[Question]:
    """Return GSM8K's records, `question` and `answer` at the top or below `doc`; PipelineError names file and record."""
    found = []
    for number, record in enumerate(records):
        fields = record.get("doc", record)
        fields = {key: fields.get(key) for key in Question.model_fields} if isinstance(fields, dict) else {}
        found.append(validate(fields, Question, Path(name), f"record {number}"))
    return found


def gsm8k_conversations(name: str, records: Iterable[dict[str, Any]], source: str) -> list[Conversation]:
    """Return problems as a question and its answer, without annotations: no calculator reads them here, and each says what
    comes next.
    """
    return [
        two_turns(source, question.question, without_calculations(question.answer)) for question in read_questions(name, records)
    ]


def chat_conversations(name: str, records: Iterable[dict[str, Any]], source: str) -> list[Conversation]:
    """Return records whose `messages` are a list of `role` and `content`; PipelineError names file and record."""
    found = []
    for number, record in enumerate(records):
        messages = record.get("messages")
        if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
            raise PipelineError(f"{name}: record {number} has no list of messages")
        # Further keys of a message (a name, an index) say nothing to a model.
        kept = [{key: message.get(key) for key in Message.model_fields} for message in messages]
        found.append(validate({"source": source, "messages": kept}, Conversation, Path(name), f"record {number}"))
    return found


def read_kept(path: Path, kind: type[Kept]) -> list[Kept]:
    """Return the rows of a file of a checksummed directory as `kind`; PipelineError names file and record."""
    found: list[Kept] = []
    try:
        for row in read_jsonl(path):
            found.append(kind(**row))
    except (TypeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"{path}: record {len(found)} is no {kind.__name__} ({reason}); run dvc repro") from None
    return found


def two_turns(source: str, question: str, answer: str) -> Conversation:
    return Conversation(
        source=source, messages=[Message(role="user", content=question), Message(role="assistant", content=answer)]
    )


FORMATS = {"gsm8k": gsm8k_conversations, "chat": chat_conversations}
