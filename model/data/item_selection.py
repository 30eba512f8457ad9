"""Which items are asked: a seeded sample of a benchmark, and continuations made from held-out documents."""

import random
from collections.abc import Iterable

from common.errors import PipelineError
from model.data.documents import Document
from model.data.items import Item, without_brackets
from model.data.record_text import visible
from model.params.items import ItemsParams


def sample_items(items: list[Item], count: int | None, seed: int) -> list[Item]:
    """Return `count` items drawn without replacement by `seed`, in their original order; all of them for None.

    Raises PipelineError if there are fewer.

    The first items of a benchmark are a biased sample, so a limited evaluation never takes them.
    """
    if count is None:
        return items
    if count > len(items):
        raise PipelineError(
            f"items.hellaswag_count ({count}) exceeds the {len(items)} items there are"
        )
    chosen = sorted(random.Random(seed).sample(range(len(items)), count))
    return [items[index] for index in chosen]


def continuation_items(documents: Iterable[Document], params: ItemsParams) -> list[Item]:
    """Make `continuation_count` items, one a document: its continuation against those of three others.

    Context and endings have fixed numbers of words, so that an ending's length tells nothing about
    its truth. Documents are left out if they are too short for both, or if their continuation has no
    text in either wording of model/tasks/wordings.py. The four endings of an item differ in both.
    """
    context_words, length = params.context_words, params.context_words + params.ending_words
    passages = [words for document in documents if len(words := document.text.split()) >= length]
    passages = [words for words in passages if all(_wordings(words[context_words:length]))]
    needed = max(4, params.continuation_count)
    if len(passages) < needed:
        raise PipelineError(
            f"continuation: {len(passages)} held-out documents have {length} words, {needed} are "
            "needed; lower "
            "items.continuation_count or items.context_words, or raise corpus.val_fraction"
        )
    generator = random.Random(params.seed)
    generator.shuffle(passages)
    wordings = [_wordings(words[context_words:length]) for words in passages]
    different, place_of = _different(wordings)
    items = []
    for index, words in enumerate(passages[: params.continuation_count]):
        same = sorted({place_of[text] for text in wordings[index]})
        count = len(different) - len(same)
        if count < 3:
            raise PipelineError(
                f"continuation: the held-out documents have {count} other continuations than "
                f"{wordings[index][0][:40]!r}, 3 are needed; raise corpus.val_fraction or "
                "items.ending_words"
            )
        others = []
        for place in generator.sample(range(count), 3):
            for equal in same:
                place += place >= equal  # counts over those that are left out
            others.append(different[place])
        endings = [" ".join(passages[n][context_words:length]) for n in (index, *others)]
        order = generator.sample(range(4), 4)
        context = " ".join(words[:context_words])
        items.append(
            Item(
                ind=index,
                activity_label="continuation",
                ctx_a=context,
                ctx_b="",
                ctx=context,
                endings=[endings[place] for place in order],
                label=order.index(0),
                source_id=f"document-{index}",
            )
        )
    return items


def _wordings(words: list[str]) -> tuple[str, str]:
    """Return an ending as a reader sees it, as it is and as lm-evaluation-harness cleans it up."""
    ending = " ".join(words)
    return visible(ending), visible(without_brackets(ending))


def _different(wordings: list[tuple[str, str]]) -> tuple[list[int], dict[str, int]]:
    """Return the numbers of endings that differ from each other, and each text's place among them.

    An ending is the same as an earlier one if either of its two texts is one of that one's.
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
