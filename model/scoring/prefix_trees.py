"""Questions as trees of token ids: a context, and the endings that branch from it."""

from collections.abc import Iterator
from typing import NamedTuple

from tokenizers import Tokenizer

from common.errors import PipelineError
from model.tasks.wordings import Question

# Lengths are padded to a multiple of this, so that many trees have one shape and form a group.
_ROUNDED_TO = 16


class Tree(NamedTuple):
    """A context and the endings that share it, as token ids.

    An item is one tree, or one tree for each of its endings: `first` is the number within the item
    of the tree's first ending.
    """

    item: int
    first: int
    context: list[int]
    endings: list[list[int]]
    # True if the only ending is longer than the model's context and so lost its start.
    cut: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of endings N, and the padded lengths C of the context and E of the endings.

        With 16 as the multiple, 4 endings of 3 to 9 tokens after 40 tokens give (4, 48, 16).
        """
        # The last token of an ending is scored but never read.
        longest = max(len(ending) for ending in self.endings) - 1
        return len(self.endings), _round_up(len(self.context)), _round_up(longest)


def _round_up(length: int) -> int:
    """Return `length` rounded up to a multiple of 16; at least 16."""
    return max(_ROUNDED_TO, -(-length // _ROUNDED_TO) * _ROUNDED_TO)


def encode(questions: list[Question], tokenizer: Tokenizer, limit: int, empty: int) -> list[Tree]:
    """Encode questions for a model of `limit` positions.

    A question is one tree. It is one tree per ending if it is too long for the model, or if each
    ending has a context of its own. As in lm-evaluation-harness, the last `limit` + 1 tokens of a
    long context and ending are kept, so the context loses its start. An empty context becomes the
    token `empty`. Raises PipelineError if an ending has no tokens of its own.
    """
    trees: list[Tree] = []
    for number, first, context, endings in _ids(questions, tokenizer):
        context = context or [empty]
        if not all(endings):
            raise PipelineError(
                f"question {number}: an ending adds no token to its context "
                f"{questions[number].context[-40:]!r}"
            )
        # - 1: the last token of an ending takes no position.
        if len(context) + max(map(len, endings)) - 1 <= limit:
            trees.append(Tree(number, first, context, endings))
            continue
        for place, ending in enumerate(endings, start=first):
            # With a limit of 1024, 1025 tokens are kept: 1024 are read, the last is only scored.
            # At least one token must be read before the first that is scored.
            kept = (context + ending)[-(limit + 1) :]
            scored = min(len(ending), len(kept) - 1)
            trees.append(
                Tree(number, place, kept[:-scored], [kept[-scored:]], cut=scored < len(ending))
            )
    return trees


def _ids(
    questions: list[Question], tokenizer: Tokenizer
) -> Iterator[tuple[int, int, list[int], list[list[int]]]]:
    """Yield for each context its question's number, its first ending's number, and the token ids.

    The ids are those of the context (tokens,) and of each of its endings.
    """
    # One flat list, in order of contexts: the context, then its continuations. One call encodes it
    # on all threads of the tokenizer.
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
            # A joint text is cut after as many tokens as its context alone has: with context
            # "a b" of 2 tokens, the ending of "a b c" is what follows the second.
            start = len(prefix) if question.joint else 0
            yield number, first, prefix, [next(encoded).ids[start:] for _ in continuations]
            first += len(continuations)
