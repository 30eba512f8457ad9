"""Conversations as ids: `User: …`, a line break, `Assistant: …` and end of text.

A document begins with end of text (E), as in pretraining. The model learns the assistant's words
and the end of text after them; it only reads the rest. The next turn begins right after that E:

    ids         E  User: 6 × 9?  ⏎  Assistant:    54  E   User: …
    is_learned  0  0 0 0 0 0 0   0  0 0            1  1   0
"""

from typing import NamedTuple

from model.data.conversations import Message
from model.tokens.export_tokenizer import FactTokenizer

NAMES = {"system": "System", "user": "User", "assistant": "Assistant"}


class Row(NamedTuple):
    """The ids of a conversation, and for each whether the model learns to predict it."""

    ids: list[int]
    is_learned: list[bool]


def prompt_ids(tokenizer: FactTokenizer, question: str) -> list[int]:
    """Return the ids of a prompt for `question`: end of text, `User: …`, `Assistant:`."""
    return [tokenizer.end_of_text, *_prompt(tokenizer, [Message(role="user", content=question)])]


def conversation_row(
    tokenizer: FactTokenizer, messages: list[Message], inject_answers: bool
) -> Row:
    """Return a conversation as a row.

    `inject_answers` replaces facts in answers by fact tokens. Messages after the last answer are
    left out.
    """
    row = Row([tokenizer.end_of_text], [False])
    unanswered: list[Message] = []
    for message in messages:
        if message.role != "assistant":
            unanswered.append(message)
            continue
        # One prompt for all messages since the last answer: system and user, or several users.
        prompt = _prompt(tokenizer, unanswered)
        # Encoded apart from the prompt: the answer's ids do not depend on the words before it.
        answer = [
            *tokenizer.encode(f" {message.content.strip()}", inject_answers),
            tokenizer.end_of_text,
        ]
        row.ids.extend(prompt + answer)
        row.is_learned.extend([False] * len(prompt) + [True] * len(answer))
        unanswered = []
    return row


def _prompt(tokenizer: FactTokenizer, messages: list[Message]) -> list[int]:
    """Return the ids of `messages` and of `Assistant:`, after which the answer begins."""
    lines = [f"{NAMES[message.role]}: {message.content.strip()}\n" for message in messages]
    return tokenizer.encode("".join([*lines, f"{NAMES['assistant']}:"]), injected=False)
