"""Compare the outcomes of two revisions, condition by condition, for `make verdict`."""

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

    `is_only_rounding`: the same code made both from the same parameters and data. A difference is
    then no finding; it shows how much rounding alone changes a network's figures.
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
    # Equal figures count as comparisons too: the correction for several tests must not depend on
    # the results.
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
    """Return both revisions' figures without intervals and p, since only rounding differs."""
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
    """Return the conditions' differences, with two runs of one seed as replicates."""
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

    Each network was made twice. If its figure differs by d between the two, d² / 2 estimates the
    variance of one run. The mean over n networks has n degrees of freedom. The difference of two
    networks has twice that variance, so

        half = sqrt(h² + t² · 2 · variance)

    with h the half interval over items and t Student's quantile. None unless the two revisions
    share exactly one seed, with at least two conditions.
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
            continue  # the report lists it among the figures that cannot be compared
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
    """Return `of`'s outcomes of the figures that both have for every seed that both have."""
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
