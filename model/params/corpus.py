"""The `corpus` section: the split, the order, the drills, what counts as contaminated, and how much of it is trained on."""

from pydantic import Field

from common.sections import Section


class CorpusParams(Section):
    """`drill_fraction` is the share of drill characters in each split.

    `target_tokens` is the exact size of the training split in tokens of the plain vocabulary, null for all there are: the
    first documents in the order that `shuffle_seed` gives, the same in every condition.
    """

    val_fraction: float = Field(gt=0, lt=1)
    drill_fraction: float = Field(ge=0, lt=1)
    drill_seed: int
    shuffle_seed: int = Field(ge=0)
    contamination_words: int = Field(gt=3)
    characters_per_shard: int = Field(gt=0)
    target_tokens: int | None = Field(gt=1)  # the first is end of text
