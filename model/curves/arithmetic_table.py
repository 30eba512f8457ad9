"""The results tables of the arithmetic probes: how often each condition's model was right."""

from pathlib import Path

from common.errors import PipelineError
from common.sections import read_json
from model.results.markdown_table import (
    Cell,
    Table,
    count,
    headings,
    over_seeds,
    seed_cell,
    seed_heading,
    words,
)

_COLUMNS = ("Prompt", "Asked", "Answer", "n")


def arithmetic_table(
    model: str, paths: dict[tuple[str, int], Path], conditions: list[str], seeds: list[int]
) -> Table:
    """Return a table of rates with a column for each condition.

    It has a row for each way of asking, group of products, way of answering and seed, and with
    several seeds rows of their mean and spread. `paths` has the probes stage's files about `model`
    by condition and seed. Raises PipelineError if two files have other rows.
    """
    figures = {run: _read(path) for run, path in paths.items()}
    rows = []
    asked = list(figures[conditions[0], seeds[0]])
    for row in asked:
        of_seeds = []
        for seed in seeds:
            cells = []
            for condition in conditions:
                if list(figures[condition, seed]) != asked:
                    raise PipelineError(
                        f"{paths[condition, seed]}: other questions than the first run's; run dvc"
                        " repro probes"
                    )
                total, cell = figures[condition, seed][row]
                cells.append(cell)
            labels = [*(words(name.replace("_", " ")) for name in row), count(total)]
            of_seeds.append(cells)
            rows.append([*labels, *seed_cell(seed, seeds), *cells])
        rows += over_seeds(labels, of_seeds)
    columns = [*_COLUMNS, *seed_heading(seeds), *headings(conditions)]
    name = f"arithmetic_{model.replace(' ', '_').replace('-', '_')}"
    return Table(name, f"Arithmetic, {model}", "rate of right products", columns, rows, labels=3)


def _read(path: Path) -> dict[tuple[str, str, str], tuple[int, Cell]]:
    """Return the number of questions and the rate by prompt, group and answer.

    They are in the order of the table's rows. Reversed names put plain prompts, seen products and
    answers as text first.
    """
    cells = {}
    try:
        for prompt, groups in sorted(read_json(path, dict).items(), reverse=True):
            for group, answers in sorted(groups.items(), reverse=True):
                for answer, rate in sorted(answers.items(), reverse=True):
                    low, high = rate["interval_95"]
                    cells[prompt, group, answer] = (
                        rate["total"],
                        Cell(f"{rate['rate']:.3f} [{low:.3f}, {high:.3f}]", rate),
                    )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: not the probes stage's ({error!r}); run dvc repro probes"
        ) from None
    if not cells:
        raise PipelineError(f"{path}: not the probes stage's (no figures); run dvc repro probes")
    return cells
