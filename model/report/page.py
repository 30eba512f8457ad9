"""The report as one HTML file that needs no other file: text first, then data, then scripts."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import yaml

from model.report.bundle import bundle
from model.report.drawing import Drawing
from model.report.figures import Figure
from model.report.lineage import Stage
from model.report.runs import Check, Export
from model.report.samples import Samples

_FOLDER = Path(__file__).parent
# tools/stale_report.py writes a warning between these if results are stale.
STALE_BEGIN, STALE_END = "<!-- stale: begin -->", "<!-- stale: end -->"


class Report(NamedTuple):
    """Everything that the page shows."""

    title: str
    # The header's rows: each condition and its differences; network, text and training.
    compared_conditions: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    # Sentences: the headline first, then the differences; and the limits of the comparison.
    verdict: list[str]
    limits: list[str]
    seeds: list[int]
    samples: Samples
    # The table of all comparisons, and the tables of plots/results.json.
    compared: dict[str, Any]
    tables: list[dict[str, Any]]
    curves: list[Figure]
    differences: list[Figure]
    usage: Figure
    checks: list[Check]
    exports: list[Export]
    tolerance: float
    sources: list[tuple[str, str, str]]
    stages: list[Stage]
    graph: Drawing


def render(report: Report) -> bytes:
    """Return the bytes of the page.

    Raises jinja2.UndefinedError if the template uses a name that `report` lacks.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["yaml"] = _yaml
    below = [figure.below for figure in report.curves if figure.below]
    figures = [*report.curves, *below, *report.differences, report.usage]
    data = {figure.id: {"data": figure.data, "by": figure.by} for figure in figures}
    scripts = [bundle(), *(_read(name) for name in ("charts.js", "report.js"))]
    text = environment.get_template("report.html").render(
        report=report,
        parity_rows=[
            (
                each.condition,
                each.seed,
                f"{each.step:,}",
                f"{each.difference:.2e}",
                f"{report.tolerance:.0e}",
                f"{each.tokens:,}",
            )
            for each in report.exports
        ],
        chain_rows=[_chain(each) for each in report.exports],
        style=_read("report.css"),
        scripts="\n".join(scripts),
        # A "<" in the data could begin a tag that ends the script element.
        chart_data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace(
            "<", "\\u003c"
        ),
        stale_begin=STALE_BEGIN,
        stale_end=STALE_END,
    )
    return text.encode()


def _chain(export: Export) -> tuple[str | int, ...]:
    """Return a table row: from an export's documents by way of its weights to its items."""
    # 12 hexadecimal digits are enough to tell the hashes of one repository apart.
    items = ", ".join(f"{task} {count:,}" for task, count in export.items.items())
    return (
        export.condition,
        export.seed,
        f"{export.step:,}",
        export.documents_sha256[:12],
        export.weights_sha256[:12],
        items,
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _yaml(value: Any) -> str:
    # PyYAML ends a lone scalar with "...".
    return yaml.safe_dump(value, sort_keys=False, width=100).removesuffix("...\n").strip()
