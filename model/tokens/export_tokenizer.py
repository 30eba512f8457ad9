"""An export's tokenizer, with the ids of multiplication facts if it has them."""

import itertools

from tokenizers import Tokenizer

from common.errors import PipelineError
from model.tokens.facts import MUL_FACTS, MulFact, inject


class FactTokenizer:
    """Encode text with or without facts, and split ids into texts, facts and ids without text."""

    def __init__(self, tokenizer: Tokenizer, end_of_text: int):
        """Look up the facts' ids; raise PipelineError if only some facts have one.

        `end_of_text` begins each training document, and is the first id that is not text.
        """
        # Encode the spelling of end of text as text. The setting is made here, since a fine-tuned
        # model's chat template needs the other one in its directory.
        tokenizer.encode_special_tokens = True
        ids = {fact: tokenizer.token_to_id(fact.token) for fact in MUL_FACTS}
        self._ids = {fact: token for fact, token in ids.items() if token is not None}
        if self._ids and len(self._ids) != len(ids):
            raise PipelineError(
                f"tokenizer.json: has tokens for {len(self._ids)} of {len(ids)} facts; run dvc "
                "repro export"
            )
        self._facts = {token: fact for fact, token in self._ids.items()}
        self._tokenizer, self.end_of_text = tokenizer, end_of_text

    def encode(self, text: str, injected: bool) -> list[int]:
        """Return the ids of `text` inside a document; with `injected`, facts become their ids.

        Without ids for facts, `injected` has no effect.
        """
        tokens = []
        for segment in inject(text) if injected and self._ids else [text]:
            if isinstance(segment, MulFact):
                tokens.append(self._ids[segment])
            else:
                tokens += self._tokenizer.encode(segment, add_special_tokens=False).ids
        return tokens

    def segments(self, tokens: list[int]) -> list[str | MulFact | None]:
        """Return texts, facts, and None for other ids from end of text on, in order.

        The ids of `We know that`, a fact and end of text give ["We know that", fact, None]. No text
        is empty. Ids that become None have a name but no text.
        """
        found: list[str | MulFact | None] = []
        # Runs of text ids are decoded together, since a character may have several tokens.
        for is_text, run in itertools.groupby(tokens, key=lambda token: token < self.end_of_text):
            ids = list(run)
            found += [self.decode(ids)] if is_text else [self._facts.get(token) for token in ids]
        return [segment for segment in found if segment != ""]

    def count_facts(self, tokens: list[int]) -> int:
        """Return how many of `tokens` are facts."""
        return sum(token in self._facts for token in tokens)

    def decode(self, tokens: list[int]) -> str:
        """Return the text of ids; an id without text becomes the name of its token."""
        return self._tokenizer.decode(tokens, skip_special_tokens=False)
