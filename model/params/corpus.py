"""The `corpus` section: split, order, drills, contamination, and the amount of training text."""

from pydantic import Field

from common.sections import Section


class CorpusParams(Section):
    """`drill_fraction` is the share of drill characters in each split.

    `target_tokens` is the exact size of the training split, in tokens of the plain vocabulary; null
    takes all documents. The split is the first documents in the order that `shuffle_seed` gives,
    the same ones in every condition.
    """

    val_fraction: float = Field(gt=0, lt=1)
    drill_fraction: float = Field(ge=0, lt=1)
    drill_seed: int
    shuffle_seed: int = Field(ge=0)
    contamination_words: int = Field(gt=3)
    characters_per_shard: int = Field(gt=0)
    target_tokens: int | None = Field(gt=1)  # the first is end of text
