"""The `corpus` section: split, order, drills, contamination, and the amount of training text."""

from common.sections import Section, param


class CorpusParams(Section):
    """How passages become a corpus: split, order, drills, contamination, amount (docs/data.md)."""

    val_fraction: float = param(
        "Share of documents in the validation split. A hash of its text decides for each document.",
        unit="share",
        gt=0,
        lt=1,
    )
    drill_fraction: float = param(
        "Share of the characters of each split that are drills.", unit="share", ge=0, lt=1
    )
    drill_seed: int = param("Seed of the drills.")
    # The seed is eight bytes of a hash's key.
    shuffle_seed: int = param("Seed of the order of documents in the corpus.", ge=0, lt=2**64)
    contamination_words: int = param(
        "A document is dropped if it shares so many words in a row with a benchmark.",
        unit="words",
        gt=3,
    )
    characters_per_shard: int = param(
        "Size of a shard of the corpus. A worker holds one shard in memory.",
        unit="characters",
        gt=0,
    )
    # The first token is end of text.
    target_tokens: int | None = param(
        "Exact size of the training split; null takes all documents. It is counted in the "
        "vocabulary of the section `tokenize`. The split has the first documents in the order of "
        "`shuffle_seed`, the same ones in every condition.",
        unit="tokens",
        rule="above `model.context`",
        gt=1,
    )
