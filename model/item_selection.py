"""Which items are asked: a seeded sample of a benchmark, and continuations made from held-out documents."""

import random
from collections.abc import Iterable

from model.documents import Document
from model.errors import PipelineError
from model.items import Item
from model.params.items import ItemsParams


def sample_items(items: list[Item], count: int | None, seed: int) -> list[Item]:
    """Return `count` items drawn without replacement by `seed`, in their original order; all of them for None.

    Raises PipelineError if there are fewer.

    The first items of a benchmark are a biased sample, so a limited evaluation never takes them.
    """
    if count is not None and count > len(items):
        raise PipelineError(f"items.hellaswag_count ({count}) exceeds the {len(items)} items there are")
    chosen = range(len(items)) if count is None else sorted(random.Random(seed).sample(range(len(items)), count))
    return [items[index] for index in chosen]


def require_sources(items: list[Item]) -> None:
    """Raise PipelineError if all items are of one source: a comparison of conditions needs two clusters."""
    sources = {item.source_id for item in items}
    if len(sources) < 2:
        raise PipelineError(
            f"items.hellaswag_count: all {len(items)} items are of one source ({', '.join(sources)}), and a comparison "
            "needs two; raise the count, or take items of several sources (source_id)"
        )


def continuation_items(documents: Iterable[Document], params: ItemsParams) -> list[Item]:
    """Make `continuation_count` items, one a document: its continuation against those of three other documents.

    Context and endings have fixed numbers of words, so that an ending's length tells nothing about its truth.
    Documents too short for both are left out.
    """
    context_words, length = params.context_words, params.context_words + params.ending_words
    passages = [words for document in documents if len(words := document.text.split()) >= length]
    needed = max(4, params.continuation_count)
    if len(passages) < needed:
        raise PipelineError(
            f"continuation: {len(passages)} held-out documents have {length} words, {needed} are needed; lower "
            "items.continuation_count or items.context_words, or raise corpus.val_fraction"
        )
    generator = random.Random(params.seed)
    generator.shuffle(passages)
    items = []
    for index, words in enumerate(passages[: params.continuation_count]):
        others = generator.sample([n for n in range(len(passages)) if n != index], 3)
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
