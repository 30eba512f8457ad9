"""Convert records from outside into conversations and problems: GSM8K's, Tulu 3's, ShareGPT's."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common.errors import PipelineError, printable
from common.sections import validate
from model.data.conversations import Conversation, Kept, Question, two_turns
from model.data.gsm8k_text import without_calculations
from model.data.record_text import has_text, visible, whole_text
from model.data.reference_answers import read_gold

# OpenAI's `developer` replaces `system`; ShareGPT's speakers are `human` and `gpt`.
_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}

Records = Iterable[dict[str, Any]]


def read_questions(name: str, records: Records) -> list[Question]:
    """Return GSM8K's test set; a record has `question` and `answer`, or has them under `doc`.

    Raises PipelineError, which names file and record, if a field has no text, an answer does not
    end in one number, or a question comes twice.
    """
    found: list[Question] = []
    # Visible question → number of its record.
    first: dict[str, int] = {}
    for number, record in enumerate(records):
        where = f"{name}: record {number}"
        question = _read(_question_fields(record), Question, where)
        try:
            read_gold(question.answer)
        except ValueError as error:
            raise PipelineError(f"{where}: answer: {printable(str(error))}") from None
        earlier = first.setdefault(visible(question.question), number)
        if earlier != number:
            raise PipelineError(f"{where}: question: the same as record {earlier}'s; keep one")
        found.append(question)
    return found


def gsm8k_conversations(name: str, records: Records, source: str) -> list[Conversation | None]:
    """Return each problem as a conversation of question and answer, None if one has no text.

    Answers lose the calculator's annotations, `<<48/2=24>>`: no calculator reads them here, and
    each gives away the number after it. Raises PipelineError, which names file and record.
    """
    found: list[Conversation | None] = []
    for number, record in enumerate(records):
        fields = _question_fields(record)
        if isinstance(fields["answer"], str):
            fields["answer"] = without_calculations(fields["answer"])
        # A field that is missing is an error below; one without text is counted as left out.
        if any(isinstance(text, str) and not has_text(text) for text in fields.values()):
            found.append(None)
        else:
            question = _read(fields, Question, f"{name}: record {number}")
            found.append(two_turns(source, question.question, question.answer))
    return found


def chat_conversations(name: str, records: Records, source: str) -> list[Conversation | None]:
    """Return each chat as a conversation, None if a user's or assistant's message has no text.

    A record has `messages` of `role` and `content`, or in ShareGPT's form `conversations` of `from`
    and `value`. A system message without text is dropped. Raises PipelineError, which names file
    and record.
    """
    found: list[Conversation | None] = []
    for number, record in enumerate(records):
        where = f"{name}: record {number}"
        messages = _messages(record, where)
        # A system message is not learned, so the chat is as good without an empty one.
        messages = [
            each for each in messages if each["role"] != "system" or has_text(each["content"])
        ]
        if all(has_text(message["content"]) for message in messages):
            found.append(_read({"source": source, "messages": messages}, Conversation, where))
        else:
            found.append(None)
    return found


def _messages(record: dict[str, Any], where: str) -> list[dict[str, str]]:
    """Return the messages of a record as role and content; error messages begin with `where`."""
    key = next((key for key in ("messages", "conversations") if record.get(key) is not None), None)
    rule = "a chat is a list `messages`, each with role and content"
    if key is None:
        keys = ", ".join(map(repr, record)) or "nothing"
        raise PipelineError(f"{where}: has {printable(f'{keys:.200}')}; {rule}")
    messages = record[key]
    if not isinstance(messages, list):
        raise PipelineError(f"{where}: {key}: is no list; {rule}")
    read = []
    for place, message in enumerate(messages):
        try:
            read.append(_message(message))
        except ValueError as error:
            raise PipelineError(f"{where}: {key}.{place}: {printable(str(error))}") from None
    return read


def _message(message: Any) -> dict[str, str]:
    """Return a message's role and content; raise ValueError if training cannot use it."""
    if not isinstance(message, dict):
        raise ValueError("is no object with role and content")
    role = _first(message, "role", "from")
    if not isinstance(role, str) or role not in _ROLES:
        roles = ", ".join(_ROLES)
        raise ValueError(
            f"the role {role!r:.80} is not one of {roles}; rename it or leave the chat out"
        )
    # Other keys, such as a name or an index, do not reach the model. These would change what it
    # should learn, so a record with them is refused.
    for key in ("tool_calls", "function_call"):
        if message.get(key):
            raise ValueError(f"has {key}, which are not taught; leave the chat out")
    if _ROLES[role] == "assistant" and message.get("weight") not in (None, 1):
        raise ValueError(
            f"has the weight {message['weight']!r:.80}; every answer has weight 1 here"
        )
    content = _first(message, "content", "value")
    # OpenAI's form of content in parts: [{"type": "text", "text": "…"}].
    if isinstance(content, list):
        content = "".join(map(_part, content))
    if not isinstance(content, str):
        raise ValueError(f"its content is no text but {content!r:.80}")
    return {"role": _ROLES[role], "content": whole_text(content)}


def _part(part: Any) -> str:
    """Return the text of one part of a content; raise ValueError if it is not text."""
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
    if not isinstance(text, str):
        raise ValueError("its content has a part that is no text; only text is taught")
    return text


def _first(message: dict[str, Any], *keys: str) -> Any:
    """Return the value of the first key that is present and not null.

    A parquet table has a column for every key, with nulls where a record lacks it.
    """
    return next((message[key] for key in keys if message.get(key) is not None), None)


def _question_fields(record: dict[str, Any]) -> dict[str, Any]:
    """Return `question` and `answer` of a record, or of its `doc`; None for what it lacks."""
    fields = record.get("doc", record)
    if not isinstance(fields, dict):
        fields = {}
    return {key: fields.get(key) for key in Question.model_fields}


def _read(fields: dict[str, Any], kind: type[Kept], where: str) -> Kept:
    """Return `fields` as `kind`; raise PipelineError of one line, with the first fault only."""
    try:
        return validate(fields, kind, Path(where))
    except PipelineError as error:
        raise PipelineError(str(error).splitlines()[0]) from None


FORMATS = {"gsm8k": gsm8k_conversations, "chat": chat_conversations}
