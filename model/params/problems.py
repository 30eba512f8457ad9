"""The `problems` section: what is fine-tuned on, and what is asked afterwards."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from common.sections import Section
from model.params.mixture import shares

GENERATED = "generated"
# A comparison needs two clusters of questions, so at least two.
_LEAST_ITEMS = 2


class ProblemsParams(Section):
    """`conversations` are drawn for training, of each source of `mixture` in proportion to its weight.

    A source is `generated`, this repository's own word problems, or a name in `fetch.conversations`. `generated_test` held-out
    word problems and `gsm8k_test` of GSM8K's test set, seeded samples (null: all of them), are asked. Conversations that
    share a run of `contamination_words` words with GSM8K's test set are left out.
    """

    conversations: int = Field(gt=0)
    mixture: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=1)
    generated_test: int | None = Field(ge=_LEAST_ITEMS)
    gsm8k_test: int | None = Field(ge=_LEAST_ITEMS)
    contamination_words: int = Field(gt=1)
    seed: int

    @model_validator(mode="after")
    def _each_source_has_a_share(self) -> Self:
        for name, count in shares(self.mixture, self.conversations).items():
            if not count:
                raise ValueError(
                    f"mixture.{name}: its weight gives it none of the {self.conversations} conversations; "
                    "raise it, or remove the source"
                )
        return self
