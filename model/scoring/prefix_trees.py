"""A question as token ids: a context, and the endings that branch from it."""

from collections.abc import Iterator
from typing import NamedTuple

from tokenizers import Tokenizer

from common.errors import PipelineError
from model.tasks.wordings import Question

_ROUNDED_TO = 16


class Tree(NamedTuple):
    """A context and the endings that share it; `item` and `first` say which item's endings they are, from which on.

    `cut` says that the one ending has lost its start, having been longer than the model's context.
    """

    item: int
    first: int
    context: list[int]
    endings: list[list[int]]
    cut: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many endings there are, and the lengths that the context and the endings are padded to."""
        # The last token of an ending is predicted and never read.
        longest = max(len(ending) for ending in self.endings) - 1
        return len(self.endings), _round_up(len(self.context)), _round_up(longest)


def _round_up(length: int) -> int:
    return max(_ROUNDED_TO, -(-length // _ROUNDED_TO) * _ROUNDED_TO)


def encode(questions: list[Question], tokenizer: Tokenizer, limit: int, empty: int) -> list[Tree]:
    """Encode questions for a model of `limit` positions: a tree each, or, of one too long, a tree for each ending.

    The rule of lm-evaluation-harness: of context and ending the last `limit` + 1 tokens are kept, so the context loses
    its start. An empty context becomes the token `empty`.
    """
    trees: list[Tree] = []
    for number, (context, endings) in enumerate(_ids(questions, tokenizer)):
        context = context or [empty]
        if not all(endings):
            raise PipelineError(
                f"question {number}: an ending adds no token to its context {questions[number].context[-40:]!r}"
            )
        if len(context) + max(map(len, endings)) - 1 <= limit:
            trees.append(Tree(number, 0, context, endings))
            continue
        for place, ending in enumerate(endings):
            kept = (context + ending)[-(limit + 1) :]
            scored = min(len(ending), len(kept) - 1)
            trees.append(
                Tree(number, place, kept[:-scored], [kept[-scored:]], cut=scored < len(ending))
            )
    return trees


def _ids(
    questions: list[Question], tokenizer: Tokenizer
) -> Iterator[tuple[list[int], list[list[int]]]]:
    texts = []
    for question in questions:
        context, continuations = question.split()
        texts.append(context)
        texts.extend(
            context + continuation if question.joint else continuation
            for continuation in continuations
        )
    encoded = iter(tokenizer.encode_batch_fast(texts, add_special_tokens=False))
    for question in questions:
        prefix = next(encoded).ids
        start = len(prefix) if question.joint else 0
        yield prefix, [next(encoded).ids[start:] for _ in question.endings]
