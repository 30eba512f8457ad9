"""Find documents that share text with a benchmark's items, so evaluated text is not trained on."""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from model.text.characters import settled

_WORD = re.compile(r"\w+")
_UNKNOWN = -1
# Places in the table of pairs, one byte each. HellaSwag's pairs fill a fortieth of them.
_SLOTS = 2**24


class Benchmark:
    """The word n-grams of a benchmark's items, as in GPT-3's contamination test.

    Source: Brown et al. 2020, appendix C, with 13 words.

    Words are numbered. N-grams are kept as 64-bit hashes of their numbers, which are the same in
    every process. All of HellaSwag at 13 words takes about 3 s and 150 MB. About one n-gram in
    10^13 matches by chance; its document is then dropped needlessly.

    Most texts are cleared by a table of pairs, without hashing n-grams. With n-grams of 4 words, a
    match needs 3 known pairs of neighbours in a row:

        words          the cat sat on the mat today
        known pair?       1   1   1  0   1   0          a run of 3: hash `the cat sat on`
    """

    def __init__(self, items: Iterable[tuple[str, Sequence[str]]], ngram_words: int):
        """Learn `items`: contexts with their endings. N-grams may cross from context to ending."""
        self._length = ngram_words
        self._numbers: dict[str, int] = {}
        self._ngrams: set[int] = set()
        # bool (_SLOTS,): whether a pair of neighbours hashes to the place.
        self._pairs = np.zeros(_SLOTS, dtype=bool)
        for text, endings in items:
            context = self._learn(text)
            self._add(context)
            for ending in endings:
                # The context's last n - 1 words, so that every new n-gram has a word of the ending.
                self._add(context[1 - ngram_words :] + self._learn(ending))

    def shares_text_with(self, text: str) -> bool:
        """Return whether a run of `ngram_words` words is in both, without case and punctuation."""
        numbers = [self._numbers.get(word, _UNKNOWN) for word in _words(text)]
        # One byte for each pair, 1 if the benchmark has it. An n-gram of the benchmark needs n - 1
        # such pairs in a row, which most texts lack.
        known = self._pairs[_slots(numbers)].tobytes()
        run = b"\x01" * (self._length - 1)
        start = known.find(run)
        while start >= 0:
            # hash() of a tuple of integers is the same in every process; only strings are salted.
            if hash(tuple(numbers[start : start + self._length])) in self._ngrams:
                return True
            # The next run may overlap this one.
            start = known.find(run, start + 1)
        return False

    def _learn(self, text: str) -> list[int]:
        """Return the numbers of the words of `text`; new words get the next ones."""
        return [self._numbers.setdefault(word, len(self._numbers)) for word in _words(text)]

    def _add(self, numbers: list[int]) -> None:
        """Add the n-grams and pairs of a text of the benchmark."""
        for end in range(self._length, len(numbers) + 1):
            self._ngrams.add(hash(tuple(numbers[end - self._length : end])))
        if len(numbers) >= self._length:
            self._pairs[_slots(numbers)] = True


def _slots(numbers: list[int]) -> np.ndarray:
    """Return the place of each pair of neighbours in the table of pairs, int64 (words - 1,)."""
    words = np.array(numbers, dtype=np.int64)
    return (words[:-1] * 1_000_003 + words[1:]) % _SLOTS


def _words(text: str) -> list[str]:
    # Words of letters, digits and underscores; `settled` makes them the same on every Python.
    return _WORD.findall(settled(text).lower())
