"""The two ways to ask an item: its text, and acc_norm's unit of length.

`reference` is that of the script that measured GPT-2's 0.2955 (karpathy/build-nanogpt,
hellaswag.py): `ctx`, a space, the ending; its acc_norm divides by tokens.

`lm_eval` is that of lm-evaluation-harness (EleutherAI/lm-evaluation-harness 0.4): its acc_norm
divides by characters. HellaSwag has the activity, capitalized ctx_b and no WikiHow brackets
(lm_eval/tasks/hellaswag); other items have the harness's text since they were fetched
(model/sources/task_formats.py).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

from model.data.items import Item, without_brackets
from model.text.characters import capitalized


class Question(NamedTuple):
    """An item as text: what the model reads, and the endings whose log-likelihoods are compared.

    `endings` lack the space before them. With `joint` (lm-evaluation-harness) context and ending
    are encoded as one text, which is then cut after as many tokens as the context alone has;
    otherwise they are encoded apart. `options` end the context, one for each ending.
    """

    context: str
    endings: list[str]
    joint: bool
    options: tuple[str, ...] = ()

    def split(self) -> list[tuple[str, list[str]]]:
        """Return each context with its continuations, which have the white space before them.

        There is one context, or with `options` one for each ending. With `joint`, white space at
        the end of a context belongs to its continuations.
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
    return Question(item.ctx, item.endings, False, tuple(item.options or ()))


def lm_eval(item: Item) -> Question:
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
