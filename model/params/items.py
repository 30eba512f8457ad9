"""The `items` section: the seed that draws items, and how continuations are cut."""

from common.sections import Section, param


class ItemsParams(Section):
    """How items are drawn, and how the task `continuation` cuts held-out documents."""

    context_words: int = param("Words in the context of a `continuation` item.", unit="words", gt=0)
    ending_words: int = param("Words in each of its endings.", unit="words", gt=0)
    seed: int = param("Seed that draws items, and the wrong endings of `continuation`.")
