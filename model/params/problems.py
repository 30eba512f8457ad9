"""The `problems` section: what is fine-tuned on, and what is asked afterwards."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from common.sections import Section, param
from model.params.mixture import shares

GENERATED = "generated"
# A comparison needs two clusters of questions, so at least two.
_LEAST_ITEMS = 2


class ProblemsParams(Section):
    """What is fine-tuned on, and what fine-tuned models are asked (docs/training.md)."""

    conversations: int = param(
        "Conversations that are drawn for fine-tuning.", unit="conversations", gt=0
    )
    mixture: dict[str, Annotated[float, Field(gt=0)]] = param(
        "Sources of conversations, by weight. A source is `generated`, the word problems of this "
        "repository, or a name in `fetch.conversations`.",
        rule="each weight gives at least one conversation",
        min_length=1,
    )
    generated_test: int | None = param(
        "Held-out word problems that are asked, of 265; null takes all.",
        unit="questions",
        ge=_LEAST_ITEMS,
    )
    gsm8k_test: int | None = param(
        "Problems of GSM8K's test set that are asked; null takes all.",
        unit="questions",
        rule="at most `fetch.gsm8k.count`",
        ge=_LEAST_ITEMS,
    )
    contamination_words: int = param(
        "A conversation is dropped if it shares so many words in a row with GSM8K's test set.",
        unit="words",
        gt=1,
    )
    seed: int = param("Seed of the word problems, and of what is drawn.")

    @model_validator(mode="after")
    def _each_source_has_a_share(self) -> Self:
        for name, count in shares(self.mixture, self.conversations).items():
            if not count:
                raise ValueError(
                    f"mixture.{name}: its weight gives it none of the {self.conversations} "
                    "conversations; raise it, or remove the source"
                )
        return self
