"""The outcomes of two revisions compared, condition by condition; `make verdict` prints it
(tools/verdict/__main__.py).
"""

import numpy as np

from model.comparison.difference_tables import comparison_table
from model.comparison.family import Judged, Row, compare_outcomes, judge
from model.comparison.outcomes import Outcomes
from model.comparison.outcomes_file import Key
from model.comparison.verdict import sentences
from model.results.markdown_table import Cell, Table, count, words

Found = dict[Key, Outcomes]


def report(revision: str, then: Found, now: Found, is_only_rounding: bool = False) -> list[str]:
    """Return the lines of a report on two revisions' outcomes.

    `is_only_rounding` is whether they were made by the same code of the same parameters and data:
    then what differs is no finding.
    """
    seeds = seeds_by_figure(then, now)
    alike = {
        name
        for name, of in seeds.items()
        if all(same(then[key], now[key]) for key in keys(name, of))
    }
    rows, apart = [], []
    for name, of in seeds.items():
        try:
            rows.append(row(then, now, name, of))
        except ValueError as error:
            apart.append(str(error))
    # Those that are alike are comparisons too: the correction is for all, whatever came out.
    judged_rows = judge(rows)
    family = [
        judged
        for judged in judged_rows
        if (*judged.row.model.split(", ", 1), judged.row.figure) not in alike
    ]
    number = judged_rows[0].comparisons if judged_rows else 0
    lines = [
        f"{revision} (first) against the working tree (second), on the same items"
        + (":\n" if is_only_rounding else f", corrected for {number} comparisons:\n")
    ]
    if family and is_only_rounding:
        made = "Both were made by the same code, of the same parameters, libraries and data"
        lines += [
            f"{made}: only rounding differs.",
            "",
            rounding_table(revision, family).markdown(),
        ]
    elif family:
        said = sentences(revision, family, is_revisions=True)
        lines += [
            said[0],
            *(f"- {line}" for line in said[1:]),
            "",
            comparison_table(revision, family).markdown(),
        ]
    if alike:
        lines.append(f"{len(alike)} of {len(seeds)} figures have the same outcome for every item.")
    if apart:
        lines.append(f"{len(apart)} figures cannot be compared: {'; '.join(apart)}")
    for where, only in (
        (revision, then.keys() - now.keys()),
        ("the working tree", now.keys() - then.keys()),
    ):
        if only:
            lines.append(
                f"{len(only)} figures are only in {where}:"
                f" {'; '.join(sorted({_run(key) for key in only}))}"
            )
    return lines


def rounding_table(revision: str, family: list[Judged]) -> Table:
    """Return the figures of both, without intervals and p: what differs is arithmetic."""
    rows = []
    for row, *_ in family:
        said = row.comparison
        figures = [Cell(f"{value:.4f}", value) for value in (said.first, said.second)]
        difference = Cell(f"{said.difference:+.4f}", said.difference)
        rows.append(
            [
                words(row.model),
                words(f"{row.figure}, {row.unit}"),
                count(said.items),
                *figures,
                difference,
            ]
        )
    columns = ["Model", "Figure", "n", revision, "working tree", "Difference"]
    return Table(
        "rounding",
        "What rounding alone changes",
        "another processor or another order of sums",
        columns,
        rows,
        labels=2,
    )


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
    return (
        one.items == other.items
        and np.array_equal(one.values, other.values)
        and np.array_equal(one.weights, other.weights)
    )


def row(then: Found, now: Found, name: tuple[str, str, str], seeds: list[int]) -> Row:
    condition, model, figure = name
    arms = [then[key] for key in keys(name, seeds)], [now[key] for key in keys(name, seeds)]
    return compare_outcomes(f"{condition}, {model}", figure, "working tree", arms)


def _run(key: Key) -> str:
    return f"{key.condition}, seed {key.seed}, {key.model}"
