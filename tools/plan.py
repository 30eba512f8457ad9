"""Compute how many seeds are needed to find a difference of X (`make plan X=0.005`).

    python -m tools.plan 0.005
    python -m tools.plan 0.02 --figure "task score"

Reads outcomes of runs with at least three seeds: metrics/outcomes.jsonl, else
docs/seeds/outcomes.jsonl of profiles/seeds.yaml, or the file that --outcomes names. Writes
nothing. Exits with 1 if there are too few seeds to tell, or no such figure.

With S seeds of each condition, the difference of two conditions has the variance

    2 (u² (1 - rho) + w²) / S + v²

    u    how much a network's figure varies from seed to seed (standard deviation)
    rho  how much the two conditions vary together, with the same seed (correlation)
    w    the chance in a network's single answers
    v    how much items suit one condition more than the other; more seeds do not reduce it

A test at .05 finds X four times in five (80 % power) if X is 2.8 times the standard error, so

    S = 15.7 (u² (1 - rho) + w²) / (X² - 7.85 v²)    with 7.85 = (1.96 + 0.84)², 15.7 = 2 · 7.85
"""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from common.errors import PipelineError
from pipeline.terminal.command_lines import command_line

if TYPE_CHECKING:
    from model.comparison.outcomes import Outcomes
    from model.comparison.outcomes_file import Key

OUTCOMES = Path("metrics/outcomes.jsonl")
# The outcomes of profiles/seeds.yaml, which git keeps.
OF_SEEDS = Path("docs/seeds/outcomes.jsonl")
LEAST_SEEDS = 3
# Seeds to add to the formula: with few seeds, Student's quantiles are wider than the normal ones.
_MORE = 2


class Seen(NamedTuple):
    """The variances of one figure, estimated from runs with several seeds.

    `of_network` is u² (1 - rho) + w², with `freedom` degrees of freedom; `of_items` is v².
    """

    condition: str
    figure: str
    of_network: float
    of_items: float
    freedom: float
    seeds: int


def seeds_needed(difference: float, of_network: float, of_items: float) -> int | None:
    """Return how many seeds of each condition, at least two, find `difference` four times in five.

    Returns None if no number of seeds suffices, because there are too few items.
    """
    left = difference**2 - 7.85 * of_items
    return None if left <= 0 else max(2, math.ceil(15.7 * of_network / left) + _MORE)


def main() -> None:
    parser = command_line("tools.plan", __doc__)
    parser.add_argument("difference", type=float, help="the true difference to find, above 0")
    parser.add_argument(
        "--figure", default="validation", help="the figure's name in plots/comparisons.md"
    )
    parser.add_argument("--outcomes", type=Path, help="outcomes of runs with several seeds")
    options = parser.parse_args()
    if not 0 < options.difference < math.inf:
        parser.error("the difference must be above 0")
    try:
        path = options.outcomes or default_path()
        print("\n".join([f"By {path}:", *plan(options.difference, options.figure, path)]))
    except PipelineError as error:
        sys.exit(f"error: plan: {error}")


def default_path() -> Path:
    """Return the path of this tree's outcomes, or of OF_SEEDS if they have too few seeds."""
    if not OF_SEEDS.exists():
        return OUTCOMES
    seeds = {key.seed for key in _read(OUTCOMES)} if OUTCOMES.exists() else set()
    return OUTCOMES if len(seeds) >= LEAST_SEEDS else OF_SEEDS


def plan(difference: float, figure: str, path: Path) -> list[str]:
    """Return the lines to print; raises PipelineError if there are too few seeds."""
    return [line for seen in look(figure, path) for line in sentences(difference, seen)]


def look(figure: str, path: Path) -> list[Seen]:
    """Return the variances of `figure` in the runs of `path`, one for each later condition."""
    from model.comparison.runs import compare_runs  # takes seconds, for which --help need not wait

    found = _read(path)
    first, *others = dict.fromkeys(key.condition for key in found)
    seeds = list(dict.fromkeys(key.seed for key in found))
    if len(seeds) < LEAST_SEEDS or not others:
        raise PipelineError(
            f"{path}: has {len(seeds)} of seeds and {1 + len(others)} of conditions; how much seeds"
            f" move a figure shows from {LEAST_SEEDS} seeds of two conditions on"
            " (profiles/seeds.yaml)"
        )
    seen = []
    for other in others:
        rows = compare_runs(found, found, (first, other), seeds)
        mine = [row for row in rows if row.figure == figure]
        if not mine:
            names = ", ".join(dict.fromkeys(row.figure for row in rows))
            raise PipelineError(f"{path}: no figure {figure!r}, but {names}")
        # The first row: for a task's accuracy, that is the mean over checkpoints.
        two = mine[0].comparison.over_seeds
        if two is None or two.seeds.error == 0:
            raise PipelineError(f"{path}: {figure}: all seeds agree, so their variance is unknown")
        seen.append(
            Seen(
                other,
                mine[0].name,
                two.seeds.error**2 * len(seeds) / 2,
                two.beyond * two.items.error**2,
                two.seeds.freedom,
                len(seeds),
            )
        )
    return seen


def _read(path: Path) -> "dict[Key, Outcomes]":
    from model.comparison.outcomes_file import parse_outcomes

    try:
        return parse_outcomes(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: cannot be read ({error}); run make repro") from None


def sentences(difference: float, seen: Seen) -> list[str]:
    """Return the plan in words: the number of seeds, and how far off it may be."""
    from scipy import stats

    start = f"{seen.condition}, {seen.figure}: a true difference of {difference:g}"
    needed = seeds_needed(difference, seen.of_network, seen.of_items)
    lines = [
        f"{start} is found four times in five, at .05 for this figure alone, with "
        + (f"{needed} seeds of each condition." if needed else "no number of seeds.")
    ]
    if needed is None:
        v = math.sqrt(seen.of_items)
        lines.append(
            f"Items suit one condition by {v:.4g} (standard deviation): only more items find less"
            f" than {2.8 * v:.4g}."
        )
        return lines
    # The variance itself is an estimate. With few seeds the true one may be far higher: take the
    # upper end of a one-sided 80 % interval.
    worst = seen.of_network * seen.freedom / float(stats.chi2.ppf(0.2, seen.freedom))
    more = seeds_needed(difference, worst, seen.of_items)
    lines.append(
        f"From {seen.seeds} seeds: a network varies by {math.sqrt(seen.of_network):.4g}, and items"
        f" suit one condition by {math.sqrt(seen.of_items):.4g} (standard deviations)."
    )
    lines.append(
        f"So few seeds may look too alike: with a chance of one in five it takes more than {more}."
    )
    return lines


if __name__ == "__main__":
    main()
