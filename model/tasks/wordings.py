"""Two wordings of an item: how it becomes text, and the unit of length of acc_norm.

`reference` follows the script that measured 0.2955 for GPT-2 (karpathy/build-nanogpt,
hellaswag.py). The text is `ctx`, a space and the ending; acc_norm divides by tokens.

`lm_eval` follows lm-evaluation-harness (EleutherAI/lm-evaluation-harness 0.4). acc_norm divides by
characters. HellaSwag's text begins with the activity, ctx_b is capitalized, and WikiHow's brackets
are removed (lm_eval/tasks/hellaswag). Items of other tasks get the harness's text when they are
fetched (model/sources/task_formats.py).

The HellaSwag item with activity "Baking", ctx_a "A man mixes dough." and ctx_b "he" is asked as

    reference   A man mixes dough. he
    lm_eval     Baking: A man mixes dough. He
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from model.data.items import Item, without_brackets
from model.text.characters import capitalized


class Question(NamedTuple):
    """An item as text."""

    # The text that the model reads before each ending.
    context: str
    # The texts whose log-likelihoods are compared.
    # They lack the space before them.
    endings: list[str]
    # True: context and ending are encoded as one text, and the ending is what follows as many
    # tokens as the context alone has (lm-evaluation-harness). False: both are encoded separately.
    joint: bool
    # Where each ending has a context of its own (WinoGrande): the end of that context.
    options: tuple[str, ...] = ()

    def split(self) -> list[tuple[str, list[str]]]:
        """Return each context with its continuations, which begin with white space.

        There is one context, or with `options` one for each ending. With `joint`, white space at
        the end of the context moves to its continuations: "a b " with ending "c" gives "a b" and
        "  c".
        """
        if not self.options:
            return [self._branch(self.context, self.endings)]
        pairs = zip(self.options, self.endings, strict=True)
        return [self._branch(self.context + option, [ending]) for option, ending in pairs]

    def _branch(self, text: str, endings: list[str]) -> tuple[str, list[str]]:
        context = text.rstrip() if self.joint else text
        between = text[len(context) :] + " "
        return context, [between + ending for ending in endings]


def reference(item: Item) -> Question:
    """Return the item in the reference script's wording."""
    return Question(item.ctx, item.endings, False, tuple(item.options or ()))


def lm_eval(item: Item) -> Question:
    """Return the item in lm-evaluation-harness's wording."""
    # Only HellaSwag's items have the three parts.
    if item.activity_label is None or item.ctx_a is None or item.ctx_b is None:
        return Question(item.ctx, item.endings, True, tuple(item.options or ()))
    context = f"{item.activity_label}: {item.ctx_a} {capitalized(item.ctx_b)}"
    return Question(
        without_brackets(context), [without_brackets(ending) for ending in item.endings], joint=True
    )


class Wording(NamedTuple):
    """How an item becomes text, and the field of ItemScore that acc_norm divides by."""

    question: Callable[[Item], Question]
    acc_norm_by: Literal["tokens", "characters"]


WORDINGS = {
    "reference": Wording(reference, "tokens"),
    "lm_eval": Wording(lm_eval, "characters"),
}
