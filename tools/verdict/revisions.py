"""The outcomes of two revisions compared, condition by condition; `make verdict` prints it
(tools/verdict/__main__.py).
"""

import math
from statistics import fmean

import numpy as np

from model.comparison.difference_tables import comparison_table
from model.comparison.family import Judged, Row, compare_outcomes, judge
from model.comparison.outcomes import Outcomes
from model.comparison.outcomes_file import Key
from model.comparison.runs import compare_runs
from model.comparison.verdict import sentences
from model.results.markdown_table import Cell, Table, count, words
from model.statistics.over_seeds import Student

Found = dict[Key, Outcomes]


def report(revision: str, then: Found, now: Found, is_only_rounding: bool = False) -> list[str]:
    """Return the lines of a report on two revisions' outcomes.

    `is_only_rounding` is whether they were made by the same code of the same parameters and data:
    then what differs is no finding, but tells how far one network is from itself.
    """
    apart: list[str] = []
    rows = []
    for condition, seeds in seeds_by_condition(then, now).items():
        other_items: list[str] = []
        found = compare_runs(
            common(then, now), common(now, then), (condition, condition), seeds, other_items
        )
        apart += [f"{condition}, {line}" for line in other_items]
        rows += [
            row._replace(model=f"{condition}, {row.model}", second="working tree") for row in found
        ]
    # Those that are alike are comparisons too: the correction is for all, whatever came out.
    judged_rows = judge(rows)
    alike = {key for key in then.keys() & now.keys() if same(then[key], now[key])}
    figures = {(key.condition, key.model, key.figure) for key in then.keys() & now.keys()}
    changed = {(key.condition, key.model, key.figure) for key in (then.keys() & now.keys()) - alike}
    family = [
        judged
        for judged in judged_rows
        if (*judged.row.model.split(", ", 1), judged.row.figure) in changed
        or (judged.row.outcomes == "" and judged.row.comparison.difference != 0)
    ]
    lines = [f"{revision} (first) against the working tree (second), on the same items:\n"]
    if family and is_only_rounding:
        made = "Both were made by the same code, of the same parameters, libraries and data"
        lines += [
            f"{made}: only rounding differs.",
            "",
            rounding_table(revision, family).markdown(),
            *replicate_lines(then, now),
        ]
    elif family:
        said = sentences(revision, family, is_revisions=True)
        lines += [
            said[0],
            *(f"- {line}" for line in said[1:]),
            "",
            comparison_table(revision, family).markdown(),
        ]
    if figures - changed:
        number = len(figures - changed)
        lines.append(f"{number} of {len(figures)} figures have the same outcome for every item.")
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


def replicate_lines(then: Found, now: Found) -> list[str]:
    """Return the conditions' differences, with reruns of one seed as replicates."""
    table = replicate_table(then, now)
    if table is None:
        return []
    return [
        "",
        "A rerun is a replicate of a network. Other seeds move a network at least as much, so the"
        " wider interval is still too narrow for a claim about the conditions.",
        "",
        table.markdown(),
    ]


def replicate_table(then: Found, now: Found) -> Table | None:
    """Return the differences of one seed's conditions, with intervals over items and over reruns.

    Of networks that were made twice, d apart in a figure, the variance of a run is the mean of
    d² / 2, with as many degrees of freedom as there are such networks. The difference of two
    networks has twice that variance: half = sqrt(h² + t² · 2 · variance). None unless there are two
    conditions and one seed, which is all that both revisions have.
    """
    shared = common(now, then)
    conditions = list(dict.fromkeys(key.condition for key in shared))
    seeds = {key.seed for key in shared}
    if len(conditions) < 2 or len(seeds) != 1:
        return None
    [seed] = seeds
    rows = []
    for key in shared:
        if key.condition != conditions[0]:
            continue
        runs = [key._replace(condition=condition) for condition in conditions]
        try:
            moved = [compare_outcomes(*key[2:], "", ([then[run]], [now[run]])) for run in runs]
        except (KeyError, ValueError):
            continue  # said among what cannot be compared
        variance = fmean(row.comparison.difference**2 / 2 for row in moved)
        over = Student(math.sqrt(2 * variance), len(moved)).half()
        for other in runs[1:]:
            row = compare_outcomes(*key[2:], other.condition, ([shared[key]], [shared[other]]))
            rows.append(_replicate_cells(row, over))
    columns = ["Model", "Figure", "n", "Difference", "95 % over items", "95 % over reruns too"]
    unit = f"{' and '.join(conditions[1:])} less {conditions[0]}, seed {seed}"
    return Table("replicates", "The conditions' differences", unit, columns, rows, labels=2)


def _replicate_cells(row: Row, over: float) -> list[Cell]:
    said = row.comparison
    low, high = said.items_interval_95
    wide = (
        said.difference - math.hypot(said.difference - low, over),
        said.difference + math.hypot(high - said.difference, over),
    )
    return [
        words(f"{row.second}, {row.model}"),
        words(row.name),
        count(said.items),
        Cell(f"{said.difference:+.4f}", said.difference),
        *(
            Cell(f"{bounds[0]:+.4f} to {bounds[1]:+.4f}", list(bounds))
            for bounds in ((low, high), wide)
        ),
    ]


def seeds_by_condition(then: Found, now: Found) -> dict[str, list[int]]:
    """Return the seeds that both have, by condition."""
    seeds: dict[str, list[int]] = {}
    for key in now:
        if key in then and key.seed not in seeds.setdefault(key.condition, []):
            seeds[key.condition].append(key.seed)
    return seeds


def common(of: Found, other: Found) -> Found:
    """Return what `of` has of the figures that both have for all seeds that both have."""
    seeds = seeds_by_condition(other, of)
    both = of.keys() & other.keys()
    return {
        key: outcomes
        for key, outcomes in of.items()
        if all(key._replace(seed=seed) in both for seed in seeds.get(key.condition, [-1]))
    }


def same(one: Outcomes, other: Outcomes) -> bool:
    return (
        one.items == other.items
        and np.array_equal(one.values, other.values)
        and np.array_equal(one.weights, other.weights)
    )


def _run(key: Key) -> str:
    return f"{key.condition}, seed {key.seed}, {key.model}"
