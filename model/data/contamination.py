"""Which documents share text with a benchmark's items: no evaluated text may be trained on."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from model.text.characters import settled

_WORD = re.compile(r"\w+")
_UNKNOWN = -1
_SLOTS = 2**24  # one byte each; HellaSwag's pairs fill a fortieth


class Benchmark:
    """The word n-grams of a benchmark's items, as GPT-3's contamination test has them.

    Source: Brown et al. 2020, appendix C, with 13 words.

    Words are numbered, and n-grams are kept as 64-bit hashes of their numbers, which are the same
    in every process. All of HellaSwag at 13 words takes about 3 s and 150 MB. About one n-gram in
    10^13 matches by chance, and its document is then dropped needlessly.
    """

    def __init__(self, items: Iterable[tuple[str, Sequence[str]]], ngram_words: int):
        """`items` are contexts with their endings; an n-gram may cross from context to ending."""
        self._length = ngram_words
        self._numbers: dict[str, int] = {}
        self._ngrams: set[int] = set()
        self._pairs = np.zeros(_SLOTS, dtype=bool)
        for text, endings in items:
            context = self._learn(text)
            self._add(context)
            for ending in endings:
                self._add(context[1 - ngram_words :] + self._learn(ending))

    def shares_text_with(self, text: str) -> bool:
        """Whether any run of `ngram_words` words, ignoring case and punctuation, is in both."""
        numbers = [self._numbers.get(word, _UNKNOWN) for word in _words(text)]
        # Most texts end here: an n-gram of the benchmark needs n - 1 pairs of neighbours in a row
        # that the benchmark has.
        known = self._pairs[_slots(numbers)].tobytes()
        run = b"\x01" * (self._length - 1)
        start = known.find(run)
        while start >= 0:
            if hash(tuple(numbers[start : start + self._length])) in self._ngrams:
                return True
            start = known.find(run, start + 1)
        return False

    def _learn(self, text: str) -> list[int]:
        return [self._numbers.setdefault(word, len(self._numbers)) for word in _words(text)]

    def _add(self, numbers: list[int]) -> None:
        for end in range(self._length, len(numbers) + 1):
            self._ngrams.add(hash(tuple(numbers[end - self._length : end])))
        if len(numbers) >= self._length:
            self._pairs[_slots(numbers)] = True


def _slots(numbers: list[int]) -> np.ndarray:
    """Return each pair of neighbours as a place in the table of pairs, int64 (words - 1,)."""
    words = np.array(numbers, dtype=np.int64)
    return (words[:-1] * 1_000_003 + words[1:]) % _SLOTS


def _words(text: str) -> list[str]:
    return _WORD.findall(settled(text).lower())
