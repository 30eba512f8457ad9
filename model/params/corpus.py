"""The `corpus` section: the split, the drills, and what counts as contaminated."""

from pydantic import Field

from model.section import Section


class CorpusParams(Section):
    """`drill_fraction` is the share of drill characters in the whole corpus; it holds in both splits, within sampling."""

    val_fraction: float = Field(gt=0, lt=1)
    drill_fraction: float = Field(ge=0, lt=1)
    drill_seed: int
    contamination_words: int = Field(gt=3)
    documents_per_shard: int = Field(gt=0)
