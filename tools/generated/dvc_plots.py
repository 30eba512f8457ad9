"""Write what `dvc plots` draws, from the table of charts.

    python -m tools.generated.dvc_plots

Reads the tasks of params.yaml, model/curves/charts.py and what draws the report's charts. Writes
plots/dvc.yaml, which git keeps, and two things that git ignores: the templates
.dvc/plots/CHART.json, and the page .dvc/plots_page.html that DVC fills, with its scripts in it
(DVC's own loads them from the network).
"""

import json
from pathlib import Path
from typing import Any

import yaml

from common.errors import run_stage
from common.files import write_bytes
from common.sections import read_section
from model.curves.charts import Chart, charts_of
from model.params.tasks import Tasks
from model.report.bundle import bundle
from model.report.vega import template
from model.tasks.listing import listed
from pipeline.terminal.command_lines import command_line

DECLARED = Path("plots/dvc.yaml")
TEMPLATES = Path(".dvc/plots")
PAGE = Path(".dvc/plots_page.html")  # named in .dvc/config
_SOURCE = Path(__file__).with_suffix(".html")
_CHARTS_JS = Path(__file__).parents[2] / "model/report/charts.js"
_HEADING = (
    "# Written by python -m tools.generated.dvc_plots from model/curves/charts.py, params.yaml.\n"
)


def plots_page() -> str:
    scripts = bundle() + "\n" + _CHARTS_JS.read_text(encoding="utf-8")
    return _SOURCE.read_text(encoding="utf-8").replace("// <<scripts>>", scripts)


def charts() -> list[Chart]:
    """Return the charts of params.yaml's tasks, and those that every run has."""
    return [*charts_of(listed(read_section("tasks", Tasks))).values()]


def declared() -> str:
    """Return plots/dvc.yaml: each chart, against the first of its axes, and the PNGs."""
    entries = [_entry(chart) for chart in charts()]
    plots = {"plots": [*entries, "figures"]}
    return _HEADING + yaml.safe_dump(plots, sort_keys=False, allow_unicode=True, width=100)


def _entry(chart: Chart) -> dict[str, Any]:
    """Return what DVC draws of a chart; the template has the choice of another axis."""
    [x, *_] = chart.x
    settings = {
        "template": chart.name,
        "title": chart.title + _note(chart),
        "x": x,
        "x_label": chart.x_label(x),
        "y": chart.y,
    }
    if chart.shape == "curve":
        settings["y_label"] = chart.y_label + (", 95 % interval" if chart.is_accuracy else "")
    return {chart.file: settings}


def _note(chart: Chart) -> str:
    """Return what the title says of the chart's lines."""
    notes = {
        "thin: training": chart.is_fitted,
        "dotted: chance": "chance" in chart.lines,
        "dashed: OpenAI gpt2": "gpt2" in chart.lines,
        "dash-dotted: the gate's tolerance": "tolerance" in chart.lines,
        "95 % intervals": chart.shape in ("differences", "paired"),
    }
    said = ", ".join(note for note, holds in notes.items() if holds)
    return f" ({said})" if said else ""


def templates() -> dict[Path, bytes]:
    """Return the text of each chart's template by its path."""
    conditions = len(read_section("conditions", dict))
    specs = {chart.name: template(chart, conditions) for chart in charts()}
    return {
        TEMPLATES / f"{name}.json": json.dumps(spec, ensure_ascii=False).encode() + b"\n"
        for name, spec in specs.items()
    }


def main() -> None:
    command_line("tools.generated.dvc_plots", __doc__, changes=True).parse_args()
    write_bytes(DECLARED, declared().encode())
    for path, text in templates().items():
        write_bytes(path, text)
    write_bytes(PAGE, plots_page().encode())


if __name__ == "__main__":
    run_stage(main)
