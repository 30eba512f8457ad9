"""The two ways in which HellaSwag is asked: what text an item becomes, and how an ending is measured.

`reference` is the script's that GPT-2's 0.2955 was measured with (karpathy/build-nanogpt, hellaswag.py): `ctx`, a space,
the ending; its acc_norm divides by tokens. `lm_eval` is lm-evaluation-harness's task (EleutherAI/lm-evaluation-harness
0.4, lm_eval/tasks/hellaswag): activity, capitalized ctx_b, WikiHow's brackets taken out; its acc_norm divides by characters.
"""

from collections.abc import Callable
from typing import NamedTuple

from model.data.items import Item, without_brackets


class Question(NamedTuple):
    """An item as text: what the model reads, and the continuations whose log-likelihoods are compared.

    `joint` says how lm-evaluation-harness encodes it: context and continuation as one text, cut after as many tokens as
    the context alone has. Otherwise they are encoded apart. `endings` are the choices without the space before them.
    """

    context: str
    endings: list[str]
    joint: bool

    def split(self) -> tuple[str, list[str]]:
        """Return the context and its continuations; where encoded as one text, white space between belongs to the latter."""
        context = self.context.rstrip() if self.joint else self.context
        between = self.context[len(context) :] + " "
        return context, [between + ending for ending in self.endings]


def reference(item: Item) -> Question:
    return Question(item.ctx, item.endings, joint=False)


def lm_eval(item: Item) -> Question:
    context = f"{item.activity_label}: {item.ctx_a} {item.ctx_b.capitalize()}"
    return Question(
        without_brackets(context), [without_brackets(ending) for ending in item.endings], joint=True
    )


class Convention(NamedTuple):
    """`acc_norm_by` names the field of model/tasks/item_scores.py's ItemScore that an ending's log-likelihood is divided by."""

    question: Callable[[Item], Question]
    acc_norm_by: str


CONVENTIONS = {
    "reference": Convention(reference, "tokens"),
    "lm_eval": Convention(lm_eval, "characters"),
}
