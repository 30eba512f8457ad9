"""Which documents share text with a benchmark's items: no evaluated text may be trained on."""

import re
from collections.abc import Iterable, Iterator

from model.items import Item

_WORD = re.compile(r"\w+")
_UNKNOWN = -1


class Benchmark:
    """The word n-grams of a benchmark's items; the same test as GPT-3's (Brown et al. 2020, appendix C), which used 13.

    Words are numbered and n-grams kept as 64-bit hashes of their numbers (integers hash alike in every process): 2.3 s
    and 150 MB for all of HellaSwag at 13 words. A chance match, about one in 10^13 n-grams, drops a document needlessly.
    """

    def __init__(self, items: Iterable[Item], ngram_words: int):
        self._length = ngram_words
        self._numbers: dict[str, int] = {}
        self._ngrams: set[int] = set()
        for item in items:
            context = self._learn(item.ctx)
            self._ngrams.update(self._hashes(context))
            for ending in item.endings:
                self._ngrams.update(self._hashes(context[1 - ngram_words :] + self._learn(ending)))

    def shares_text_with(self, text: str) -> bool:
        """Whether any run of `ngram_words` words, ignoring case and punctuation, is in both."""
        numbers = [self._numbers.get(word, _UNKNOWN) for word in _words(text)]
        return not self._ngrams.isdisjoint(self._hashes(numbers))

    def _learn(self, text: str) -> list[int]:
        return [self._numbers.setdefault(word, len(self._numbers)) for word in _words(text)]

    def _hashes(self, numbers: list[int]) -> Iterator[int]:
        for end in range(self._length, len(numbers) + 1):
            yield hash(tuple(numbers[end - self._length : end]))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
