"""A question as token ids: a context, and the endings that branch from it."""

from collections.abc import Iterator
from typing import NamedTuple

from tokenizers import Tokenizer

from common.errors import PipelineError
from model.tasks.wordings import Question

_ROUNDED_TO = 16


class Tree(NamedTuple):
    """A context and the endings that share it, of item `item` from its ending `first` on.

    `cut` tells that the only ending lost its start, being longer than the model's context.
    """

    item: int
    first: int
    context: list[int]
    endings: list[list[int]]
    cut: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of endings, and the padded lengths of the context and of the endings."""
        # The last token of an ending is predicted and never read.
        longest = max(len(ending) for ending in self.endings) - 1
        return len(self.endings), _round_up(len(self.context)), _round_up(longest)


def _round_up(length: int) -> int:
    return max(_ROUNDED_TO, -(-length // _ROUNDED_TO) * _ROUNDED_TO)


def encode(questions: list[Question], tokenizer: Tokenizer, limit: int, empty: int) -> list[Tree]:
    """Encode questions for a model of `limit` positions.

    A question is one tree, or one tree per ending if it is too long or has a context for each. As
    in lm-evaluation-harness, the last `limit` + 1 tokens of context and ending are kept, so the
    context loses its start. An empty context becomes the token `empty`.
    """
    trees: list[Tree] = []
    for number, first, context, endings in _ids(questions, tokenizer):
        context = context or [empty]
        if not all(endings):
            raise PipelineError(
                f"question {number}: an ending adds no token to its context "
                f"{questions[number].context[-40:]!r}"
            )
        if len(context) + max(map(len, endings)) - 1 <= limit:
            trees.append(Tree(number, first, context, endings))
            continue
        for place, ending in enumerate(endings, start=first):
            kept = (context + ending)[-(limit + 1) :]
            scored = min(len(ending), len(kept) - 1)
            trees.append(
                Tree(number, place, kept[:-scored], [kept[-scored:]], cut=scored < len(ending))
            )
    return trees


def _ids(
    questions: list[Question], tokenizer: Tokenizer
) -> Iterator[tuple[int, int, list[int], list[list[int]]]]:
    """Yield each context: its question's number, first ending's place, ids, and endings' ids."""
    texts = []
    for question in questions:
        for context, continuations in question.split():
            texts.append(context)
            texts.extend(
                context + continuation if question.joint else continuation
                for continuation in continuations
            )
    encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    for number, question in enumerate(questions):
        first = 0
        for _, continuations in question.split():
            prefix = next(encoded).ids
            start = len(prefix) if question.joint else 0
            yield number, first, prefix, [next(encoded).ids[start:] for _ in continuations]
            first += len(continuations)
