"""The results table from pretraining to GSM8K: a row for each figure, a column a condition."""

from pathlib import Path
from typing import Any, NamedTuple

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
from model.tasks.labels import RULES, problem_set_words, task_figures
from model.tasks.problem_sets import PROBLEM_SETS
from model.tasks.table import Task


class Figure(NamedTuple):
    """One table row: model, label, metrics file below the run's folder, key path in it."""

    model: str
    name: str
    file: str
    keys: tuple[str, ...]


# How a generation ended: keys of gsm8k.json, and their words.
_ENDS = {
    "stopped": "ended by the model",
    "cut": "cut at the greatest length",
    "too_long": "too long to be asked",
}


def _task_figures(tasks: list[Task]) -> list[Figure]:
    return [
        Figure(
            "pretrained",
            figure.label,
            "step_{step}/evaluation.json",
            (figure.task, figure.metric),
        )
        for figure in task_figures(tasks)
        if figure.has_curve and figure.is_accuracy
    ]


def _answer_figures() -> list[Figure]:
    return [
        Figure("fine-tuned", f"{problem_set_words(name)}, {words}", "gsm8k.json", (name, key))
        for name in PROBLEM_SETS
        for key, words in (RULES | _ENDS).items()
    ]


def post_training_table(
    folders: dict[tuple[str, int], Path],
    tasks: list[Task],
    step: int,
    conditions: list[str],
    seeds: list[int],
) -> Table:
    """Return a table with a row for each figure and seed, and rows of mean and spread over seeds.

    `folders` has the runs' metrics by condition and seed. `step` is that of the export that was
    fine-tuned. Raises PipelineError if two conditions count different numbers of items.
    """
    rows = []
    for figure in [*_task_figures(tasks), *_answer_figures()]:
        of_seeds = []
        for seed in seeds:
            cells = [
                _cell(folders[condition, seed] / figure.file.format(step=step), figure.keys)
                for condition in conditions
            ]
            # Rates of different numbers of items cannot be compared; counts have no total.
            totals = sorted({str(total) for total, _ in cells})
            if len(totals) > 1:
                raise PipelineError(
                    f"{figure.file}: {figure.name} counts {totals} items; run dvc repro"
                )
            total = cells[0][0]
            of = Cell("", None) if total is None else count(total)
            labels = [words(figure.model), words(figure.name), of]
            of_seeds.append([cell for _, cell in cells])
            rows.append([*labels, *seed_cell(seed, seeds), *of_seeds[-1]])
        rows += over_seeds(labels, of_seeds)
    columns = ["Model", "Figure", "n", *seed_heading(seeds), *headings(conditions)]
    title, unit = "From pretraining to GSM8K", "rates with 95 % intervals, and counts"
    return Table("post_training", title, unit, columns, rows, labels=2)


def _cell(path: Path, keys: tuple[str, ...]) -> tuple[int | None, Cell]:
    """Return the number of items and the cell of a rate, or None and the cell of a count."""
    value: Any = read_json(path, dict)
    try:
        for key in keys:
            value = value[key]
        if isinstance(value, int):
            return None, count(value)
        low, high = value["interval_95"]
        return value["total"], Cell(f"{value['rate']:.4f} [{low:.3f}, {high:.3f}]", value)
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path}: has no {' '.join(keys)} as its stage writes it ({error!r}); run dvc repro"
        ) from None
