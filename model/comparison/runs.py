"""Compare two sets of runs: every figure of every model, and three figures that combine several.

- Each task's accuracy as the mean over checkpoints, which varies less than one checkpoint's.
- The task score: the mean over tasks of (accuracy - chance) / (1 - chance), over the same
  checkpoints. It is 0 for guessing and 1 if all is right.
- The true answers' bits per byte: the mean over tasks, at the last checkpoint.

Two wordings of one task share their items and count once.
"""

import re
from collections.abc import Iterable

import numpy as np

from model.comparison.family import (
    ABOVE_CHANCE,
    BITS_PER_BYTE,
    Arms,
    Row,
    compare_outcomes,
    matched,
)
from model.comparison.outcomes import Outcomes
from model.comparison.outcomes_file import Key
from model.statistics.paired import Term, compare_sum

TASK_SCORE = "task score"
TRUE_ANSWERS = "true answers of all tasks"
# Means over checkpoints leave out the first tenth of training, where the learning rate warms up and
# a network still answers by chance.
_EARLY = 0.1


def compare_runs(
    first: dict[Key, Outcomes],
    second: dict[Key, Outcomes],
    conditions: tuple[str, str],
    seeds: list[int],
    apart: list[str] | None = None,
) -> list[Row]:
    """Compare the runs of conditions[0] in `first` with those of conditions[1] in `second`.

    Rows are ordered: primary, secondary, described. Raises ValueError if two runs answered
    different items. With a list `apart`, such a figure is left out and the reason is appended to
    the list.
    """
    # The first run determines which figures there are, and their order.
    names = [
        (key.model, key.figure)
        for key in first
        if (key.condition, key.seed) == (conditions[0], seeds[0])
    ]
    arms: dict[tuple[str, str], Arms] = {}
    rows = []
    for model, figure in names:
        # The outcomes of each condition, in the order of `seeds`.
        found = tuple(
            [runs[Key(condition, seed, model, figure)] for seed in seeds]
            for runs, condition in zip((first, second), conditions, strict=True)
        )
        both: Arms = (found[0], found[1])
        try:
            rows.append(compare_outcomes(model, figure, conditions[1], both))
        except ValueError as error:
            if apart is None:
                raise
            apart.append(str(error))
        else:
            arms[model, figure] = both
    rows = [*_together(arms, conditions[1]), *rows]
    order = ("primary", "secondary", "")
    return sorted(rows, key=lambda row: order.index(row.role))


def _together(arms: dict[tuple[str, str], Arms], second: str) -> list[Row]:
    """Return the rows of the figures that combine several checkpoints or tasks."""
    matches = (re.fullmatch(r"step ([0-9]+)", model) for model, _ in arms)
    # Models other than checkpoints, such as "fine-tuned", have no step.
    steps = sorted({int(match[1]) for match in matches if match})
    if not steps:
        return []
    late = [step for step in steps if step > _EARLY * steps[-1]]
    model = f"mean of {len(late)} checkpoints" if len(late) > 1 else f"step {late[0]}"
    rows, tasks = [], {}
    # Accuracies: the mean of each item over checkpoints, so that items stay the unit.
    for figure in _figures(arms, late, is_answers=True):
        of_steps = [arms[f"step {step}", figure] for step in late]
        mean = _mean(of_steps)
        tasks[figure] = mean
        if len(late) > 1:
            rows.append(compare_outcomes(model, figure, second, mean))
    terms = _score_terms(_once(tasks))
    if terms:
        found = compare_sum(terms, is_answers=True)
        rows.append(Row(model, TASK_SCORE, ABOVE_CHANCE, second, found, role="secondary"))
    # Bits per byte: the last checkpoint only.
    last = f"step {late[-1]}"
    losses = _once(
        {figure: arms[last, figure] for figure in _figures(arms, late[-1:], is_answers=False)}
    )
    terms = [
        matched(figure, both)[0]._replace(scale=1 / len(losses)) for figure, both in losses.items()
    ]
    if terms:
        found = compare_sum(terms, is_answers=False)
        rows.append(Row(last, TRUE_ANSWERS, BITS_PER_BYTE, second, found, role="secondary"))
    return rows


def _figures(
    arms: dict[tuple[str, str], Arms], steps: Iterable[int], is_answers: bool
) -> list[str]:
    """Return the names of the tasks' figures that every one of `steps` has."""
    names = dict.fromkeys(figure for _, figure in arms)
    found = []
    for figure in names:
        of_steps = [arms.get((f"step {step}", figure)) for step in steps]
        if all(
            both is not None and both[0][0].item_set and both[0][0].is_answers == is_answers
            for both in of_steps
        ):
            found.append(figure)
    return found


def _mean(of_steps: list[Arms]) -> Arms:
    """Return each item's mean over checkpoints: right at 3 of 4 checkpoints is 0.75."""

    # side 0 or 1 is the condition, `number` the seed's place
    def mean(side: int, number: int) -> Outcomes:
        outcomes = [both[side][number] for both in of_steps]
        values = np.mean([each.values for each in outcomes], axis=0)
        return outcomes[-1]._replace(values=values)

    count = len(of_steps[0][0])
    first, second = ([mean(side, number) for number in range(count)] for side in (0, 1))
    return first, second


def _once(tasks: dict[str, Arms]) -> dict[str, Arms]:
    """Return the first figure of each set of items, in the order of `tasks`."""
    once: dict[str, str] = {}
    for figure, both in tasks.items():
        once.setdefault(both[0][0].item_set, figure)
    return {figure: tasks[figure] for figure in once.values()}


def _score_terms(tasks: dict[str, Arms]) -> list[Term]:
    """Return the terms of the mean of (accuracy - chance) / (1 - chance) over tasks.

    One of two tasks with chance 0.25 has the scale 1 / 0.75 / 2 = 0.667 and the offset -0.167.
    """
    terms = []
    for figure, both in tasks.items():
        chance = both[0][0].chance or 0.0
        scale = 1 / (1 - chance) / len(tasks)
        terms.append(matched(figure, both)[0]._replace(scale=scale, offset=-chance * scale))
    return terms
