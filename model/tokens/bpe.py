"""GPT-2's byte-pair encoding with a prefix of its ranks, end of text, and 45 fact tokens.

A prefix of the merge ranks is itself a valid byte-pair encoding. The ids with all 50,256 ranks:

    0 … 50255        ranks: 256 single bytes, then merges in the order in which they apply
    50256            end of text
    50257 … 50301    the 45 multiplication facts
    50302, 50303     reserved: padding to a multiple of 64, as nanoGPT's 50,304

All conditions have the same ids. A condition without facts reserves the facts' ids. Reserved ids
are never produced.
"""

import base64
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tiktoken
from pydantic import Field

from common.errors import PipelineError
from common.files import json_bytes, verified, way_back
from common.sections import Section, read_json
from model.tokens.facts import MUL_FACTS, FoundFact, find_facts

END_OF_TEXT = "<|endoftext|>"
# GPUs multiply matrices faster if the vocabulary's size is a multiple of 64.
_MULTIPLE = 64
# Texts between facts up to this many characters are cached.
_SHORT = 64
# A text that tries a pattern on all characters below U+3000, before hours of work depend on it.
_CHARACTERS = "".join(map(chr, range(0x3000)))
# Source: r50k_base in openai/tiktoken, tiktoken_ext/openai_public.py (GPT-2's pattern in a faster
# spelling). It cuts `It's 6 × 9.` into `It`, `'s`, ` 6`, ` ×`, ` 9` and `.`; merges stay inside.
PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
# tiktoken 0.14 panics on 999,999 or more white space characters before other text, because
# `\s+(?!\S)` can backtrack to each of them. Texts are therefore cut in long runs, before the last
# white space character. The pattern ends a piece there anyway, so no id changes. Unicode's white
# space, unlike Python's, does not include U+001C to U+001F.
_LONGEST_RUN = 500_000
_LONG_RUN = re.compile(rf"(?<![^\S\x1c-\x1f])[^\S\x1c-\x1f]{{{_LONGEST_RUN},}}+(?!\Z)")


class Vocabulary(Section):
    """vocabulary.json: the condition's pattern, and a name for every id from `end_of_text` on."""

    end_of_text: int
    mul_facts: bool
    pattern: str
    size: int = Field(le=2**16)
    names: list[str]


class EncodedDocument(NamedTuple):
    """A training document's ids, uint16 (tokens,), without the end of text before them.

    `facts` is the number of facts among them. `plain_tokens` is how many ids the text has if no
    fact is replaced. `expressions` counts (form, "found") and (form, "changed"), as `find_facts`
    does; in a condition without facts it counts only what is found.
    """

    tokens: np.ndarray
    plain_tokens: int
    facts: int
    expressions: Counter[tuple[str, str]]


class Tokenizer:
    """Maps text to ids and back. It is stored as vocabulary.json and ranks.tiktoken."""

    def __init__(self, ranks: dict[bytes, int], mul_facts: bool, pattern: str = PATTERN):
        """Build the tokenizer; `ranks` maps the tokens of ranks 0 … n-1 to their rank, n ≥ 256.

        With `mul_facts`, facts become ids. `pattern` is the regular expression whose matches are
        encoded one by one. Raises PipelineError if it is not a regular expression, or does not
        match every character.
        """
        self.ranks = ranks
        self.mul_facts = mul_facts
        self.pattern = pattern
        self.end_of_text = len(ranks)
        # Rounded up: 50,256 + 1 + 45 = 50,302 becomes 50,304.
        self.size = -(-(len(ranks) + 1 + len(MUL_FACTS)) // _MULTIPLE) * _MULTIPLE
        self._fact_ids = {
            fact: self.end_of_text + 1 + index for index, fact in enumerate(MUL_FACTS)
        }
        self._facts = {token: fact for fact, token in self._fact_ids.items()} if mul_facts else {}
        try:
            self._encoding = tiktoken.Encoding(
                "gpt2-prefix",
                pat_str=pattern,
                mergeable_ranks=ranks,
                special_tokens={END_OF_TEXT: self.end_of_text},
            )
        except ValueError as error:
            raise self._refusal(f"not a regular expression ({error})") from None
        # Bytes of each id's text: `_encode` checks with them that no byte was lost.
        self._lengths = np.array([*map(len, ranks), len(END_OF_TEXT)])
        self.encode_text(_CHARACTERS)
        self._encode_short = lru_cache(2**16)(self.encode_text)

    def __reduce__(self) -> tuple[type["Tokenizer"], tuple[dict[bytes, int], bool, str]]:
        # For pickle: tiktoken's own object cannot be sent to a worker process.
        return Tokenizer, (self.ranks, self.mul_facts, self.pattern)

    @cached_property
    def names(self) -> list[str]:
        """The names of the ids from `end_of_text` on, which ordinary text is never encoded to."""
        names = {
            self.end_of_text: END_OF_TEXT,
            **{token: fact.token for token, fact in self._facts.items()},
        }
        return [
            names.get(token, f"<|reserved_{token}|>")
            for token in range(self.end_of_text, self.size)
        ]

    def encode_text(self, text: str) -> list[int]:
        """Encode `text` without facts; the spelling of a special token is ordinary text."""
        ids: list[int] = self.encode_plain(text).tolist()
        return ids

    def encode_plain(self, text: str) -> np.ndarray:
        """Encode `text` as `encode_text` does, to uint16 (tokens,)."""
        if len(text) <= _LONGEST_RUN:
            return self._encode(text)
        cuts = [0, *(run.end() - 1 for run in _LONG_RUN.finditer(text)), len(text)]
        return np.concatenate([self._encode(text[start:end]) for start, end in pairwise(cuts)])

    def encode_bytes(self, content: bytes) -> np.ndarray:
        """Encode UTF-8 bytes to uint16 (tokens,); a character cut at the end becomes its bytes.

        A cut document may end like that. Each byte of the incomplete character is one token.
        """
        whole = content.decode(errors="ignore")
        rest = content[len(whole.encode()) :]
        ends = [self.ranks[bytes([byte])] for byte in rest]
        return np.concatenate([self.encode_plain(whole), np.array(ends, dtype=np.uint16)])

    def _encode(self, text: str) -> np.ndarray:
        """Encode text without long runs of white space; raise PipelineError if bytes are lost."""
        try:
            tokens = self._encoding.encode_to_numpy(
                text, allowed_special=frozenset(), disallowed_special=()
            )
        except UnicodeEncodeError:
            # Half a surrogate pair, which tiktoken's encode_to_numpy does not replace by U+FFFD.
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            return self._encode(text)
        except ValueError as error:
            raise self._refusal(
                f"gives up on a text of {len(text):,} characters ({error})"
            ) from None
        # tiktoken silently leaves out what the pattern does not match.
        if self._lengths[tokens].sum() != len(text.encode()):
            raise self._refusal("does not match every character")
        return tokens.astype(np.uint16)

    def _refusal(self, reason: str) -> PipelineError:
        return PipelineError(f"tokenize.pattern {self.pattern!r}: {reason}; correct it")

    def encode_document(self, text: str) -> EncodedDocument:
        """Encode a training document: as `encode_text`, but each fact is one token.

        In a condition without facts this encodes as `encode_text`. With facts, `We know that
        6 × 9 = 54, and so on.` is encoded in three parts, of which the second holds the fact:

            part   `We know that`   ` 6 × 9 = 54,`       ` and so on.`
            ids    merges           blank, fact, comma   merges
        """
        expressions: Counter[tuple[str, str]] = Counter()
        facts = find_facts(text, expressions)
        if not facts or not self.mul_facts:
            plain = self.encode_plain(text)
            found = Counter(
                {
                    (form, what): count
                    for (form, what), count in expressions.items()
                    if what == "found"
                }
            )
            return EncodedDocument(plain, len(plain), 0, found)
        parts: list[np.ndarray] = []
        # Up to `end`, the text is encoded.
        plain_tokens = end = 0
        for start, stop, inside in _surroundings(text, facts):
            parts.append(self.encode_plain(text[end:start]))
            # The text before the stretch, and the stretch as it would be without facts.
            plain_tokens += len(parts[-1]) + len(self._encode_around(text[start:stop]))
            # The stretch with facts: what stands before each one, the fact's id, and the rest.
            around: list[int] = []
            for fact in inside:
                around += [
                    *self._encode_around(text[start : fact.start]),
                    self._fact_ids[fact.fact],
                ]
                start = fact.end
            parts.append(
                np.array([*around, *self._encode_around(text[start:stop])], dtype=np.uint16)
            )
            end = stop
        parts.append(self.encode_plain(text[end:]))
        return EncodedDocument(
            np.concatenate(parts), plain_tokens + len(parts[-1]), len(facts), expressions
        )

    def _encode_around(self, text: str) -> list[int]:
        """Encode as `encode_text`, with a cache: texts around facts are short and often repeat."""
        return self._encode_short(text) if len(text) <= _SHORT else self.encode_text(text)

    def decode(self, tokens: Iterable[int]) -> str:
        """Decode ids to text: a fact becomes `6 × 9 = 54`, other ids above the ranks their names.

        Invalid UTF-8, such as a character whose tokens are cut off, becomes U+FFFD.
        """
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def decode_bytes(self, tokens: Iterable[int]) -> bytes:
        """Decode ids to bytes, which need not be valid UTF-8."""
        return b"".join(self._bytes(int(token)) for token in tokens)

    def _bytes(self, token: int) -> bytes:
        if token < self.end_of_text:
            return self._encoding.decode_single_token_bytes(token)
        fact = self._facts.get(token)
        return (str(fact) if fact else self.names[token - self.end_of_text]).encode()

    def save(self, directory: Path) -> None:
        """Write vocabulary.json and ranks.tiktoken; the caller writes the checksums."""
        vocabulary = Vocabulary(
            end_of_text=self.end_of_text,
            mul_facts=self.mul_facts,
            pattern=self.pattern,
            size=self.size,
            names=self.names,
        )
        (directory / "vocabulary.json").write_bytes(json_bytes(vocabulary.model_dump()))
        (directory / "ranks.tiktoken").write_bytes(
            b"".join(
                b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in self.ranks.items()
            )
        )

    @classmethod
    def load(cls, directory: Path) -> "Tokenizer":
        """Read the tokenizer that `save` wrote to a checksummed directory.

        Raises PipelineError if a file is damaged, or if the ranks do not give the vocabulary.
        """
        path = verified(directory / "vocabulary.json")
        vocabulary = read_json(path, Vocabulary)
        tokenizer = cls(
            read_ranks(verified(directory / "ranks.tiktoken")),
            vocabulary.mul_facts,
            vocabulary.pattern,
        )
        if (tokenizer.end_of_text, tokenizer.size, tokenizer.names) != (
            vocabulary.end_of_text,
            vocabulary.size,
            vocabulary.names,
        ):
            raise PipelineError(f"{path}: does not fit its ranks.tiktoken; {way_back(directory)}")
        return tokenizer


def _surroundings(text: str, facts: list[FoundFact]) -> Iterator[tuple[int, int, list[FoundFact]]]:
    """Yield stretches of `text` that hold all facts, as start, stop and the facts in between.

    A stretch begins and ends before a blank that follows no blank. Byte-pair encoding always begins
    a new token there. So the text outside the stretches is encoded the same with and without facts,
    and only the stretches are encoded twice. In `We know that 6 × 9 = 54, and 3 * 4 is more.`:

        We know that| 6 × 9 = 54,| and| 3 * 4| is more.
                     ‾‾‾‾‾‾‾‾‾‾‾‾      ‾‾‾‾‾‾           two stretches

    Facts with only one such place between them, as in `6*9=54, 3*4=12`, share one stretch.
    """
    start = stop = 0
    inside: list[FoundFact] = []
    # A stretch ends before the next fact at the latest.
    limits = [*(fact.start for fact in facts[1:]), len(text)]
    for fact, limit in zip(facts, limits, strict=True):
        left = _cut(text, fact.start, stop, -1)
        if inside and left > stop:
            yield start, stop, inside
            inside = []
        if not inside:
            start = left
        stop = _cut(text, fact.end, limit, 1)
        inside.append(fact)
    yield start, stop, inside


def _cut(text: str, place: int, limit: int, step: int) -> int:
    """Return the nearest place to cut from `place` on in direction `step`, or `limit`."""
    while place != limit and not (text[place] in " \n" and not text[place - 1].isspace()):
        place += step
    return place


def read_ranks(path: Path, count: int | None = None) -> dict[bytes, int]:
    """Read the first `count` ranks (None: all) of a file in tiktoken's format, in order from 0.

    Raises PipelineError if the file has fewer, if they are not consecutive from 0, or if a single
    byte has none.
    """
    ranks: dict[bytes, int] = {}
    try:
        for line in path.read_bytes().splitlines()[:count]:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path}: not a tiktoken ranks file ({error})") from None
    if list(ranks.values()) != list(range(len(ranks))) or (
        count is not None and len(ranks) != count
    ):
        raise PipelineError(
            f"{path}: {len(ranks)} ranks, not consecutive from 0 or fewer than the {count} asked "
            "for"
        )
    # tiktoken would panic at a text with a byte that has no rank.
    if any(bytes([byte]) not in ranks for byte in range(256)):
        raise PipelineError(
            f"{path}: a single byte has no rank, so that not every text could be encoded; take "
            "GPT-2's ranks"
        )
    return ranks
