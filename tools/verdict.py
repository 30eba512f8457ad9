"""`make verdict REV=main`: what this tree's figures are against another revision's, with their significance.

    python -m tools.verdict REVISION

`dvc metrics diff` shows that figures differ; this says which differences are more than noise. Reads metrics/outcomes.jsonl, what
every item says of every figure, of the working tree and of the revision: no data, no model, and nothing is run.
"""

import sys
from pathlib import Path

import numpy as np
import yaml

from graph.lock import CONTENTS, Graph
from graph.tree import GitTree, WorkingTree
from model.errors import PipelineError
from model.outcome_file import Key, parse_outcomes
from model.outcomes import Outcomes
from model.verdict import Row, compare_outcomes, comparison_table, judge, sentences

OUTCOMES = "metrics/outcomes.jsonl"

Found = dict[Key, Outcomes]


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1]:
        sys.exit("usage: python -m tools.verdict REVISION (make verdict REV=main)")
    revision = sys.argv[1]
    try:
        then = parse_outcomes(committed(revision), f"{OUTCOMES} at {revision}")
        now = parse_outcomes(Path(OUTCOMES).read_text(), OUTCOMES)
    except OSError as error:
        sys.exit(f"error: verdict: {OUTCOMES}: {error.strerror}; run make repro")
    except UnicodeDecodeError as error:
        sys.exit(f"error: verdict: {OUTCOMES}: no text ({error}); run make repro")
    except PipelineError as error:
        sys.exit(f"error: verdict: {error}")
    print("\n".join([*report(revision, then, now), *stale()]))


def committed(revision: str) -> str:
    try:
        return GitTree(Path.cwd(), revision).read(OUTCOMES).decode()
    except (FileNotFoundError, ValueError) as error:
        raise PipelineError(f"{str(error).removeprefix('fatal: ')}; name a revision that has run compare") from None


def stale() -> list[str]:
    """Return a warning if the working tree's figures are not of its code, parameters and libraries."""
    try:
        found = Graph(WorkingTree(Path.cwd())).stale()
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return ["Whether the working tree's figures are of its code cannot be told; make check says why."]
    # A list of files that make repro has not yet written says nothing of the figures.
    reasons = [name for name, lines in found.items() if not all(line.startswith(CONTENTS) for line in lines)]
    warning = f"The working tree's figures are not of its code: {len(reasons)} stages would rerun; run make repro"
    return [warning] if reasons else []


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
    return one.items == other.items and np.array_equal(one.values, other.values)


def row(then: Found, now: Found, name: tuple[str, str, str], seeds: list[int]) -> Row:
    condition, model, figure = name
    arms = [then[key] for key in keys(name, seeds)], [now[key] for key in keys(name, seeds)]
    return compare_outcomes(f"{condition}, {model}", figure, "working tree", arms)


def _run(key: Key) -> str:
    return f"{key.condition}, seed {key.seed}, {key.model}"


if __name__ == "__main__":
    main()
