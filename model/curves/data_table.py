"""The results table of the training text: one set of documents in the tokens of each condition."""

from pathlib import Path
from typing import Any

from common.errors import PipelineError
from common.sections import read_json
from model.results.markdown_table import Cell, Table, headings, words

# Rows of the table: keys of tokenize.json, and how their numbers are written.
_ROWS = {
    "documents": "{:,}",
    "original_bytes": "{:,}",
    "tokens": "{:,}",
    "tokens_per_byte": "{:.4f}",
    "mul_fact_tokens": "{:,}",
    "mul_fact_rate": "{:.5f}",
}


def data_table(paths: dict[str, Path]) -> Table:
    """Return a table of the training split with a column for each condition.

    `paths` has each condition's tokenize.json. Raises PipelineError unless the conditions have the
    same documents in the same order, since only then can they be compared.
    """
    summaries = {condition: _read(path) for condition, path in paths.items()}
    first, *others = paths
    for other in others:
        for split in ("train", "val"):
            if (
                summaries[other][split]["documents_sha256"]
                != summaries[first][split]["documents_sha256"]
            ):
                raise PipelineError(
                    f"{paths[first]} and {paths[other]}: not of the same {split} documents, so"
                    " the conditions cannot be compared; run dvc repro tokenize"
                )
    rows = []
    for row, form in _ROWS.items():
        values = [summary["train"][row] for summary in summaries.values()]
        name = row.replace("_", " ").replace("mul", "multiplication")
        rows.append([words(name), *(Cell(form.format(value), value) for value in values)])
    title, unit = "What the conditions are trained on", "the same documents in the same order"
    return Table(
        "training_text", title, unit, ["Training split", *headings(list(paths))], rows, labels=1
    )


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the needed keys of both splits; raise PipelineError if one is missing."""
    summary = read_json(path, dict)
    try:
        wanted = {
            split: {row: summary[split][row] for row in ("documents_sha256", *_ROWS)}
            for split in ("train", "val")
        }
    except (KeyError, TypeError) as error:
        raise PipelineError(
            f"{path}: not the tokenize stage's ({error!r}); run dvc repro tokenize"
        ) from None
    return wanted
