"""The results table from pretraining over fine-tuning to GSM8K: a row for each figure, a column for each condition."""

from pathlib import Path
from typing import Any, NamedTuple

from common.errors import PipelineError
from common.sections import read_json
from model.results.markdown_table import (
    Cell,
    Table,
    count,
    headings,
    seed_cell,
    seed_heading,
    words,
)


class Figure(NamedTuple):
    """A row: whose figure it is, what it is called, the file below a run's metrics, and the keys that lead to it there."""

    model: str
    name: str
    file: str
    keys: tuple[str, ...]


def _answers(problems: str, called: str) -> list[Figure]:
    rules = (
        ("strict", "strict"),
        ("flexible", "flexible"),
        ("strict_stated", "strict, facts stated"),
        ("flexible_stated", "flexible, facts stated"),
    )
    ends = (
        ("stopped", "ended by the model"),
        ("cut", "cut at the greatest length"),
        ("too_long", "too long to be asked"),
    )
    rows = [*rules, *ends]
    return [
        Figure("fine-tuned", f"{called}, {words}", "gsm8k.json", (problems, key))
        for key, words in rows
    ]


_FIGURES = (
    Figure(
        "pretrained", "HellaSwag acc_norm", "step_{step}/evaluation.json", ("hellaswag", "acc_norm")
    ),
    Figure(
        "pretrained",
        "continuation acc_norm",
        "step_{step}/evaluation.json",
        ("continuation", "acc_norm"),
    ),
    *_answers("generated", "generated problems"),
    *_answers("gsm8k", "GSM8K"),
)


def post_training_table(
    folders: dict[tuple[str, int], Path], step: int, conditions: list[str], seeds: list[int]
) -> Table:
    """Return a table, a row for each figure and seed; `folders` are the runs' metrics by condition and seed.

    `step` is that of the export that was fine-tuned.
    """
    rows = []
    for figure in _FIGURES:
        for seed in seeds:
            cells = [
                _cell(folders[condition, seed] / figure.file.format(step=step), figure.keys)
                for condition in conditions
            ]
            totals = sorted({str(total) for total, _ in cells})
            if len(totals) > 1:
                raise PipelineError(
                    f"{figure.file}: {figure.name} counts {totals} items; run dvc repro"
                )
            total = cells[0][0]
            of = Cell("", None) if total is None else count(total)
            rows.append(
                [
                    words(figure.model),
                    words(figure.name),
                    of,
                    *seed_cell(seed, seeds),
                    *(cell for _, cell in cells),
                ]
            )
    columns = ["Model", "Figure", "n", *seed_heading(seeds), *headings(conditions)]
    title, unit = "From pretraining to GSM8K", "rates with 95 % intervals, and counts"
    return Table("post_training", title, unit, columns, rows, labels=2)


def _cell(path: Path, keys: tuple[str, ...]) -> tuple[int | None, Cell]:
    """Return how many items a rate is of, None for a count, and the figure."""
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
