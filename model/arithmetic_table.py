"""The results tables of the arithmetic probes: how often each condition's final model gave the product."""

from pathlib import Path

from model.errors import PipelineError
from model.section import read_json

_COLUMNS = ("prompt", "asked", "answer", "n", "seed")


def arithmetic_table(model: str, paths: dict[tuple[str, int], Path], conditions: list[str], seeds: list[int]) -> str:
    """Return a Markdown table, a row for each way of asking, group, way of answering and seed, a column for each condition.

    `paths` are the probes stage's files about `model` by condition and seed.
    """
    figures = {run: _read(path) for run, path in paths.items()}
    lines = [
        f"**Arithmetic, {model}** (rate of right products)\n",
        "| " + " | ".join([*_COLUMNS, *conditions]) + " |",
        "|---|---|---|---:|---:|" + "---:|" * len(conditions),
    ]
    rows = list(figures[conditions[0], seeds[0]])
    for row in rows:
        for seed in seeds:
            cells = []
            for condition in conditions:
                if list(figures[condition, seed]) != rows:
                    raise PipelineError(f"{paths[condition, seed]}: asks otherwise than the first run; run dvc repro probes")
                total, cell = figures[condition, seed][row]
                cells.append(cell)
            lines.append(f"| {' | '.join(row).replace('_', ' ')} | {total:,} | {seed} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _read(path: Path) -> dict[tuple[str, str, str], tuple[int, str]]:
    """Return the number of questions and the rate as text, by prompt, group and answer, in the order of the table.

    JSON's keys are sorted; the other way round the trained and the plain come first.
    """
    cells = {}
    try:
        for prompt, groups in sorted(read_json(path, dict).items(), reverse=True):
            for group, answers in sorted(groups.items(), reverse=True):
                for answer, rate in sorted(answers.items(), reverse=True):
                    low, high = rate["interval_95"]
                    cells[prompt, group, answer] = rate["total"], f"{rate['rate']:.3f} [{low:.3f}, {high:.3f}]"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PipelineError(f"{path}: not the probes stage's ({error!r}); run dvc repro probes") from None
    if not cells:
        raise PipelineError(f"{path}: not the probes stage's (no figures); run dvc repro probes")
    return cells
