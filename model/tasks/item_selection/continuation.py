"""The task `continuation`: which of four endings comes next in a held-out document."""

import random
from collections.abc import Iterable
from typing import Literal

from common.errors import PipelineError
from model.data.documents import Document
from model.data.items import Item, without_brackets
from model.data.record_text import visible
from model.params.items import ItemsParams


def continuation_items(
    documents: Iterable[Document], asked: int | Literal["all"], params: ItemsParams
) -> list[Item]:
    """Make `asked` items from as many documents: the true ending and those of three others.

    Contexts and endings have fixed numbers of words, so that an ending's length does not give the
    answer away. A document is left out if it is too short, or if its ending has no visible text in
    one of the wordings (model/tasks/wordings.py). The four endings of an item differ in both
    wordings. Raises PipelineError if too few documents or different endings are left.
    """
    context_words = params.context_words
    passages = _long_enough(documents, context_words, context_words + params.ending_words)
    count = len(passages) if asked == "all" else asked
    # One true ending and three others.
    needed = max(4, count)
    if len(passages) < needed:
        raise PipelineError(
            f"continuation: {len(passages)} held-out documents have "
            f"{context_words + params.ending_words} words, {needed} are needed; lower "
            "tasks.continuation.asked or items.context_words, or raise corpus.val_fraction"
        )
    generator = random.Random(params.seed)
    generator.shuffle(passages)
    endings = [words[context_words:] for words in passages]
    wordings = [_wordings(words) for words in endings]
    different, place_of = _different(wordings)
    items = []
    for index, words in enumerate(passages[:count]):
        same = sorted({place_of[text] for text in wordings[index]})
        others = _three_others(different, same, wordings[index][0], generator)
        # order[p] is the choice shown at place p; choice 0 is the true ending.
        order = generator.sample(range(4), 4)
        choices = [" ".join(endings[number]) for number in (index, *others)]
        context = " ".join(words[:context_words])
        items.append(
            Item(
                ind=index,
                activity_label="continuation",
                ctx_a=context,
                ctx_b="",
                ctx=context,
                endings=[choices[place] for place in order],
                label=order.index(0),
                source_id=f"document-{index}",
            )
        )
    return items


def _long_enough(documents: Iterable[Document], context_words: int, length: int) -> list[list[str]]:
    """Return the first `length` words of each document that has as many and a visible ending."""
    passages = []
    for document in documents:
        words = document.text.split()
        if len(words) >= length and all(_wordings(words[context_words:length])):
            passages.append(words[:length])
    return passages


def _three_others(
    different: list[int], same: list[int], ending: str, generator: random.Random
) -> list[int]:
    """Draw three of the `different` endings, skipping the places in `same` (sorted).

    With 5 endings and `same` = [1], the draws 0, 1, 2, 3 stand for the places 0, 2, 3, 4.
    Raises PipelineError if fewer than three are left.
    """
    count = len(different) - len(same)
    if count < 3:
        raise PipelineError(
            f"continuation: the held-out documents have {count} other continuations than "
            f"{ending[:40]!r}, 3 are needed; raise corpus.val_fraction or items.ending_words"
        )
    others = []
    for place in generator.sample(range(count), 3):
        # Each place to skip that lies at or before the draw moves it on by one.
        for equal in same:
            place += place >= equal
        others.append(different[place])
    return others


def _wordings(words: list[str]) -> tuple[str, str]:
    """Return an ending's visible text, as it is and without the brackets that lm_eval removes."""
    ending = " ".join(words)
    return visible(ending), visible(without_brackets(ending))


def _different(wordings: list[tuple[str, str]]) -> tuple[list[int], dict[str, int]]:
    """Return the numbers of endings that differ from each other, and each text's place among them.

    An ending equals an earlier one if they share either text. For the texts (a, a), (b, b), (a, c)
    the result is [0, 1] and {a: 0, b: 1, c: 0}.
    """
    different: list[int] = []
    place_of: dict[str, int] = {}
    for number, texts in enumerate(wordings):
        found = next((place_of[text] for text in texts if text in place_of), len(different))
        if found == len(different):
            different.append(number)
        for text in texts:
            place_of.setdefault(text, found)
    return different, place_of
