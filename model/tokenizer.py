"""GPT-2's byte-pair encoding, cut to a prefix of its ranks, with end of text and 45 multiplication facts behind it.

A prefix of the merge ranks is itself a valid byte-pair encoding. The ids: base ranks, end of text, 45 facts, padding to a
multiple of 64. Both conditions have the same ids and the same size; where a condition does not use the facts, their ids
are reserved, and reserved ids are never produced. With all 50,256 ranks the size is 50,304, nanoGPT's.
"""

import base64
from functools import cached_property
from pathlib import Path

import numpy as np
import tiktoken
from pydantic import Field

from model.errors import PipelineError
from model.facts import MUL_FACTS, MulFact, inject
from model.files import json_bytes, verified
from model.section import Section, read_json

END_OF_TEXT = "<|endoftext|>"
_MULTIPLE = 64
# Source: r50k_base in openai/tiktoken, tiktoken_ext/openai_public.py (itself GPT-2's, rewritten to be faster).
_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


class Vocabulary(Section):
    """What `vocabulary.json` holds: the condition's meaning of every id from `end_of_text` up."""

    end_of_text: int
    mul_facts: bool
    size: int = Field(le=2**16)
    names: list[str]


class Tokenizer:
    """Text to ids and back; `vocabulary.json` and `ranks.tiktoken` in one directory are its whole state."""

    def __init__(self, ranks: dict[bytes, int], mul_facts: bool):
        """`ranks` maps the tokens of ranks 0 … n-1 to their rank, n ≥ 256; `mul_facts` gives the facts their ids."""
        self.ranks = ranks
        self.mul_facts = mul_facts
        self.end_of_text = len(ranks)
        self.size = -(-(len(ranks) + 1 + len(MUL_FACTS)) // _MULTIPLE) * _MULTIPLE
        self._fact_ids = {fact: self.end_of_text + 1 + index for index, fact in enumerate(MUL_FACTS)}
        self._facts = {token: fact for fact, token in self._fact_ids.items()} if mul_facts else {}
        self._encoding = tiktoken.Encoding(
            "gpt2-prefix", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: self.end_of_text}
        )

    def __reduce__(self):
        return Tokenizer, (self.ranks, self.mul_facts)  # tiktoken's own object does not travel between processes

    @cached_property
    def names(self) -> list[str]:
        """The name of every id from `end_of_text` to the last, none of which ordinary text encodes to."""
        names = {self.end_of_text: END_OF_TEXT, **{token: fact.token for token, fact in self._facts.items()}}
        return [names.get(token, f"<|reserved_{token}|>") for token in range(self.end_of_text, self.size)]

    def encode_text(self, text: str) -> list[int]:
        """Encode `text` as it stands; the spelling of a special token is text like any other."""
        return self._encoding.encode_ordinary(text)

    def encode_document(self, text: str) -> list[int]:
        """Encode a training document: as `encode_text`, but a condition with facts has each fact as its one token."""
        if not self.mul_facts:
            return self.encode_text(text)
        tokens: list[int] = []
        for segment in inject(text):
            if isinstance(segment, MulFact):
                tokens.append(self._fact_ids[segment])
            else:
                tokens.extend(self._encoding.encode_ordinary(segment))
        return tokens

    def is_fact(self, tokens: np.ndarray) -> np.ndarray:
        """Return which of `tokens` are multiplication facts; none in a condition without them."""
        first = self.end_of_text + 1
        return self.mul_facts & (tokens >= first) & (tokens < first + len(MUL_FACTS))

    def decode(self, tokens: list[int]) -> str:
        """Decode ids to text: a fact in its canonical form (`6 × 9 = 54`), other ids above the ranks by name.

        Bytes that are no UTF-8, as at a cut between two tokens of one character, become U+FFFD.
        """
        parts = [self._bytes(token) for token in tokens]
        return b"".join(parts).decode("utf-8", errors="replace")

    def _bytes(self, token: int) -> bytes:
        if token < self.end_of_text:
            return self._encoding.decode_single_token_bytes(token)
        fact = self._facts.get(token)
        return (str(fact) if fact else self.names[token - self.end_of_text]).encode()

    def save(self, directory: Path) -> None:
        vocabulary = Vocabulary(end_of_text=self.end_of_text, mul_facts=self.mul_facts, size=self.size, names=self.names)
        (directory / "vocabulary.json").write_bytes(json_bytes(vocabulary.model_dump()))
        (directory / "ranks.tiktoken").write_bytes(
            b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in self.ranks.items())
        )

    @classmethod
    def load(cls, directory: Path) -> "Tokenizer":
        """Read what `save` wrote to a checksummed directory; a vocabulary that these ranks do not give is an error."""
        path = verified(directory / "vocabulary.json")
        vocabulary = read_json(path, Vocabulary)
        tokenizer = cls(read_ranks(verified(directory / "ranks.tiktoken")), vocabulary.mul_facts)
        if (tokenizer.end_of_text, tokenizer.size, tokenizer.names) != (
            vocabulary.end_of_text,
            vocabulary.size,
            vocabulary.names,
        ):
            raise PipelineError(f"{path}: does not fit its ranks.tiktoken; delete the directory and run dvc repro")
        return tokenizer


def read_ranks(path: Path, count: int | None = None) -> dict[bytes, int]:
    """Read the first `count` ranks (all for None) of a file in tiktoken's format, in order from 0."""
    ranks: dict[bytes, int] = {}
    try:
        for line in path.read_bytes().splitlines()[:count]:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: not a tiktoken ranks file ({error})") from None
    if list(ranks.values()) != list(range(len(ranks))) or (count is not None and len(ranks) != count):
        raise PipelineError(f"{path}: {len(ranks)} ranks, not consecutive from 0 or fewer than the {count} asked for")
    return ranks
