"""Answers of one model, with its earlier turns, as text that is whole characters."""

from collections.abc import Callable
from typing import Literal, NamedTuple

from common.errors import PipelineError
from model.post_training.chat_format import prompt_ids
from model.tokens.export_tokenizer import FactTokenizer
from tools.ask.models import Model
from tools.ask.sampling import Sampling, next_tokens

# New tokens of an answer where nothing else is said, or as many as the context has room for.
USUAL_TOKENS = 96


Ended = Literal["stopped", "cut", "interrupted"]


class Answer(NamedTuple):
    """What a model answered; it ended by itself, or was `cut` at the most tokens or by Ctrl-C."""

    text: str
    ids: list[int]
    ended: Ended
    prompt_tokens: int


class Asked:
    """A model, and what was said so far if the turns belong together."""

    def __init__(self, model: Model, keeps_turns: bool, inject_facts: bool = False):
        """`inject_facts` makes facts in prompts tokens, for a model that continues text."""
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
        """Return the answer, having handed its text to `write` piece by piece.

        In a conversation, Ctrl-C ends the answer. Raises PipelineError for a prompt that does not
        fit the context with its answer.
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
            # The next turn begins with the end of text that ends this one.
            self._turns.append(asked + found)
        return Answer(text.whole, found, ended, len(ids))

    def require_room(self, prompt: str, new_tokens: int | None, where: str) -> None:
        """Raise PipelineError for a prompt that does not fit the context with its answer."""
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
        """Return the ids to continue and the most new ones; forget turns that do not fit.

        Raises PipelineError for a prompt that does not fit by itself.
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
    """The text of ids, as far as its characters are whole; a character may take several ids."""

    def __init__(self, tokenizer: FactTokenizer, without_blank: bool):
        """`without_blank` leaves out the blank that an answer begins with in the chat format."""
        self._tokenizer, self._without_blank = tokenizer, without_blank
        self._ids: list[int] = []
        self.whole = ""

    def add(self, token: int) -> str:
        """Return what `token` completes."""
        self._ids.append(token)
        # Bytes that are no whole character yet are decoded as this one.
        return self._grown(self._decoded().rstrip("\ufffd"))

    def rest(self) -> str:
        """Return what no further id would complete."""
        return self._grown(self._decoded())

    def _decoded(self) -> str:
        text = self._tokenizer.decode(self._ids)
        return text.removeprefix(" ") if self._without_blank else text

    def _grown(self, text: str) -> str:
        new = text[len(self.whole) :]
        self.whole += new
        return new
