"""The outcomes of two revisions compared, condition by condition; `make verdict` prints it (tools/verdict.py)."""

import numpy as np

from model.outcome_file import Key
from model.outcomes import Outcomes
from model.verdict import Row, compare_outcomes, comparison_table, judge, sentences

Found = dict[Key, Outcomes]


def report(revision: str, then: Found, now: Found) -> list[str]:
    """Return the lines of a report on two revisions' outcomes."""
    seeds = seeds_by_figure(then, now)
    alike = {name for name, of in seeds.items() if all(same(then[key], now[key]) for key in keys(name, of))}
    rows, apart = [], []
    for name, of in seeds.items():
        try:
            rows.append(row(then, now, name, of))
        except ValueError as error:
            apart.append(str(error))
    # Those that are alike are comparisons too: the correction is for all, whatever came out.
    family = [judged for judged in judge(rows) if (*judged.row.model.split(", ", 1), judged.row.figure) not in alike]
    lines = [f"{revision} (first) against the working tree (second), on the same items, corrected for {len(rows)} comparisons:\n"]
    if family:
        said = sentences(revision, family)
        lines += [said[0], *(f"- {line}" for line in said[1:]), "", comparison_table(revision, family).markdown()]
    if alike:
        lines.append(f"{len(alike)} of {len(seeds)} figures have the same outcome for every item.")
    if apart:
        lines.append(f"{len(apart)} figures cannot be compared: {'; '.join(apart)}")
    for where, only in ((revision, then.keys() - now.keys()), ("the working tree", now.keys() - then.keys())):
        if only:
            lines.append(f"{len(only)} figures are only in {where}: {'; '.join(sorted({_run(key) for key in only}))}")
    return lines


def seeds_by_figure(then: Found, now: Found) -> dict[tuple[str, str, str], list[int]]:
    """Return the seeds that both have, by condition, model and figure."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for key in now:
        if key in then:
            seeds.setdefault((key.condition, key.model, key.figure), []).append(key.seed)
    return seeds


def keys(name: tuple[str, str, str], seeds: list[int]) -> list[Key]:
    condition, model, figure = name
    return [Key(condition, seed, model, figure) for seed in seeds]


def same(one: Outcomes, other: Outcomes) -> bool:
    return one.items == other.items and np.array_equal(one.values, other.values) and np.array_equal(one.weights, other.weights)


def row(then: Found, now: Found, name: tuple[str, str, str], seeds: list[int]) -> Row:
    condition, model, figure = name
    arms = [then[key] for key in keys(name, seeds)], [now[key] for key in keys(name, seeds)]
    return compare_outcomes(f"{condition}, {model}", figure, "working tree", arms)


def _run(key: Key) -> str:
    return f"{key.condition}, seed {key.seed}, {key.model}"
