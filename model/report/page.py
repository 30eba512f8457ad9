"""The report as one HTML file that needs nothing else: text first, then data, then scripts."""

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
# tools/stale_report.py puts what is stale now between these.
STALE_BEGIN, STALE_END = "<!-- stale: begin -->", "<!-- stale: end -->"


class Report(NamedTuple):
    """All that the page shows.

    `compared_conditions` and `facts` are the header's: the conditions and what each has of its own,
    and the network, the text and the training. `verdict` has sentences, the first of them the
    headline, `limits` what it could not have seen. `compared` is the table of all comparisons,
    `tables` are those of plots/results.json.
    """

    title: str
    compared_conditions: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    verdict: list[str]
    limits: list[str]
    seeds: list[int]
    samples: Samples
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
    """Return the page; raises jinja2.UndefinedError where the template asks for what there is
    not.
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
        # In a script element no text may look like a tag.
        chart_data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace(
            "<", "\\u003c"
        ),
        stale_begin=STALE_BEGIN,
        stale_end=STALE_END,
    )
    return text.encode()


def _chain(export: Export) -> tuple[str | int, ...]:
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
    return yaml.safe_dump(value, sort_keys=False, width=100).removesuffix("...\n").strip()
