"""The two published ways to ask HellaSwag: an item's text, and acc_norm's unit of length.

`reference` is that of the script that measured GPT-2's 0.2955 (karpathy/build-nanogpt,
hellaswag.py): `ctx`, a space, the ending; its acc_norm divides by tokens.

`lm_eval` is that of lm-evaluation-harness (EleutherAI/lm-evaluation-harness 0.4,
lm_eval/tasks/hellaswag): the activity, capitalized ctx_b, no WikiHow brackets; its acc_norm divides
by characters.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from model.data.items import Item, without_brackets
from model.text.characters import capitalized


class Question(NamedTuple):
    """An item as text: what the model reads, and the endings whose log-likelihoods are compared.

    `endings` lack the space before them. With `joint` (lm-evaluation-harness) context and ending
    are encoded as one text, which is then cut after as many tokens as the context alone has;
    otherwise they are encoded apart.
    """

    context: str
    endings: list[str]
    joint: bool

    def split(self) -> tuple[str, list[str]]:
        """Return the context and its continuations, each with the white space before it.

        With `joint`, white space at the end of the context belongs to the continuations.
        """
        context = self.context.rstrip() if self.joint else self.context
        between = self.context[len(context) :] + " "
        return context, [between + ending for ending in self.endings]


def reference(item: Item) -> Question:
    return Question(item.ctx, item.endings, joint=False)


def lm_eval(item: Item) -> Question:
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
