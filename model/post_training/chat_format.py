"""Conversations as ids: `User: …`, a line break, `Assistant: …` and end of text.

A document begins with end of text, as in pretraining. The assistant's words and the end of text
after them are learned; all else is only read. The next turn begins right after that end of text.
"""

from typing import NamedTuple

from model.data.conversations import Message
from model.tokens.export_tokenizer import FactTokenizer

NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


class Row(NamedTuple):
    """Ids of a conversation, and for each whether it is to be predicted."""

    ids: list[int]
    is_learned: list[bool]


def prompt_ids(tokenizer: FactTokenizer, question: str) -> list[int]:
    """Return the ids after which the model answers `question`."""
    return [tokenizer.end_of_text, *_prompt(tokenizer, [Message(role="user", content=question)])]


def conversation_row(
    tokenizer: FactTokenizer, messages: list[Message], inject_answers: bool
) -> Row:
    """Return a conversation as a row; `inject_answers` makes facts in answers tokens."""
    row = Row([tokenizer.end_of_text], [False])
    unanswered: list[Message] = []
    for message in messages:
        if message.role != "assistant":
            unanswered.append(message)
            continue
        prompt = _prompt(tokenizer, unanswered)
        answer = [
            *tokenizer.encode(f" {message.content.strip()}", inject_answers),
            tokenizer.end_of_text,
        ]
        row.ids.extend(prompt + answer)
        row.is_learned.extend([False] * len(prompt) + [True] * len(answer))
        unanswered = []
    return row


def _prompt(tokenizer: FactTokenizer, messages: list[Message]) -> list[int]:
    lines = [f"{NAMES[message.role]}: {message.content.strip()}\n" for message in messages]
    return tokenizer.encode("".join([*lines, f"{NAMES['assistant']}:"]), injected=False)
