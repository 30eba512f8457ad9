"""Draw the questions to ask: a seeded sample that a comparison can use."""

import random
from collections.abc import Callable
from typing import TypeVar

from common.errors import PipelineError

Question = TypeVar("Question")


def sample_questions(
    key: str,
    questions: list[Question],
    cluster: Callable[[Question], str],
    count: int | None,
    seed: int,
) -> list[Question]:
    """Return `count` questions drawn without replacement by `seed`, or all if `count` is None.

    Raises PipelineError, which names params.yaml's `key`, if there are fewer questions. It also
    raises if all drawn ones are of one cluster, since intervals resample clusters and need two.
    """
    if count is not None and count > len(questions):
        raise PipelineError(f"params.yaml: {key}: {count} asked for, there are {len(questions)}")
    # `sample` draws without replacement; the order is that of the draw.
    drawn = questions if count is None else random.Random(seed).sample(questions, count)
    if len({cluster(question) for question in drawn}) < 2:
        advice = "raise it, or take another problems.seed" if count else "take another source"
        problem = f"all {len(drawn)} questions are of one cluster, and a comparison needs two"
        raise PipelineError(f"params.yaml: {key}: {problem}; {advice}")
    return drawn
