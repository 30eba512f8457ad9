"""Get answers from one model, with its earlier turns, as text of whole characters."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from common.errors import PipelineError
from model.post_training.chat_format import prompt_ids
from model.tokens.export_tokenizer import FactTokenizer
from tools.ask.models import Model
from tools.ask.sampling import Sampling, next_tokens

# The default for new tokens of an answer, or as many as the context has room for.
USUAL_TOKENS = 96


Ended = Literal["stopped", "cut", "interrupted"]


class Answer(NamedTuple):
    """A model's answer: it ended by itself, or was `cut` by the limit of tokens or by Ctrl-C."""

    text: str
    ids: list[int]
    ended: Ended
    prompt_tokens: int


class Asked:
    """A model, with the earlier turns if the prompts form a conversation."""

    def __init__(self, model: Model, keeps_turns: bool, inject_facts: bool = False):
        """Set the model up; `inject_facts` replaces facts in prompts by fact tokens."""
        self.model = model
        self._keeps_turns = keeps_turns and model.chats
        self._inject_facts = inject_facts
        self._turns: list[list[int]] = []

    def answer(
        self,
        prompt: str,
        new_tokens: int | None,
        sampling: Sampling,
        write: Callable[[str], None] = lambda _: None,
    ) -> Answer:
        """Return the answer; pass its text to `write` piece by piece before.

        In a conversation, Ctrl-C ends the answer. Raises PipelineError if the prompt and its answer
        do not fit the context.
        """
        asked = self._ids(prompt)
        ids, count = self._fitted(asked, new_tokens)
        tokenizer = self.model.tokenizer
        ended: Ended = "cut"
        found: list[int] = []
        text = TextStream(tokenizer, without_blank=self.model.chats)
        try:
            for token in next_tokens(self.model.network, ids, count, sampling):
                if token == tokenizer.end_of_text:
                    ended = "stopped"
                    break
                found.append(token)
                write(text.add(token))
        except KeyboardInterrupt:
            if not self._keeps_turns:
                raise
            ended = "interrupted"
        write(text.rest())
        if self._keeps_turns:
            # Without the end of text: the next turn begins with it.
            self._turns.append(asked + found)
        return Answer(text.whole, found, ended, len(ids))

    def require_room(self, prompt: str, new_tokens: int | None, where: str) -> None:
        """Raise PipelineError if the prompt and its answer do not fit the context."""
        try:
            self._fitted(self._ids(prompt), new_tokens)
        except PipelineError as error:
            raise PipelineError(f"{where}: {error}") from None

    def _ids(self, prompt: str) -> list[int]:
        tokenizer = self.model.tokenizer
        if self.model.chats:
            return prompt_ids(tokenizer, prompt)
        return [tokenizer.end_of_text, *tokenizer.encode(prompt, self._inject_facts)]

    def _fitted(self, asked: list[int], new_tokens: int | None) -> tuple[list[int], int]:
        """Return the ids to continue, and the limit of new ones; forget turns that do not fit.

        Raises PipelineError if the prompt alone does not fit.
        """
        context = self.model.network.config.n_positions
        needed = new_tokens or min(USUAL_TOKENS, context - len(asked))
        if needed < 1 or len(asked) + needed > context:
            raise PipelineError(
                f"{self.model.name}: a prompt of {len(asked)} tokens and {max(needed, 1)} new ones"
                f" exceed the model's context of {context}; shorten the prompt"
                + (" or lower --tokens" if new_tokens else "")
            )
        while sum(map(len, self._turns)) + len(asked) + needed > context:
            del self._turns[0]
        return [token for turn in self._turns for token in turn] + asked, needed


class TextStream:
    """The text of ids as it grows, without incomplete characters: one may take several ids."""

    def __init__(self, tokenizer: FactTokenizer, without_blank: bool):
        """Start an empty text; `without_blank` drops the blank that begins a chat answer."""
        self._tokenizer, self._without_blank = tokenizer, without_blank
        self._ids: list[int] = []
        self.whole = ""

    def add(self, token: int) -> str:
        """Return the text that `token` completes."""
        self._ids.append(token)
        # The bytes of an incomplete character are decoded as U+FFFD.
        return self._grown(self._decoded().rstrip("\ufffd"))

    def rest(self) -> str:
        """Return the rest of the text, when no further id comes."""
        return self._grown(self._decoded())

    def _decoded(self) -> str:
        text = self._tokenizer.decode(self._ids)
        return text.removeprefix(" ") if self._without_blank else text

    def _grown(self, text: str) -> str:
        new = text[len(self.whole) :]
        self.whole += new
        return new
