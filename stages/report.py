"""Write the report: one HTML page with verdict, tables, charts, integrity checks and lineage.

Lineage is which code, data and parameters made each result. Reads plots/, metrics/ and samples/ of
the run, params.yaml, libraries.yaml, stages.yaml (a link to dvc.yaml) and all code, which the page
names by its hash. Writes plots/report.html. Costs a few seconds at any size.
"""

from pathlib import Path
from typing import Any

from common.errors import PipelineError, run_stage
from common.files import write_bytes
from common.sections import read_json, validate
from common.yaml_file import read_yaml
from model.conditions.effective import twins
from model.curves.charts import curves_of
from model.params.tasks import Tasks
from model.report.drawing import draw_graph
from model.report.figures import curve_figures, difference_figures, usage_figure
from model.report.header import compared, facts, title
from model.report.lineage import read_stages
from model.report.page import Report, render
from model.report.runs import checks, read_exports, sources
from model.report.samples import sampled
from model.tasks.listing import listed

PLOTS, METRICS, SAMPLES = Path("plots"), Path("metrics"), Path("samples")
OUTPUT = PLOTS / "report.html"


def main() -> None:
    params = read_yaml(Path("params.yaml"))
    conditions, seeds = list(params["conditions"]), params["seeds"]
    tolerance = float(params["export"]["parity_tolerance"])
    steps, same = params["pretrain"]["checkpoint_steps"], twins(params, params["conditions"])
    exports = read_exports(METRICS, conditions, seeds, steps)
    prompts = params["samples"]["prompts"]
    tasks = listed(validate(params["tasks"], Tasks, Path("params.yaml"), "tasks"))
    stages = read_stages(Path())
    page = render(
        Report(
            title=title(conditions),
            compared_conditions=compared(params),
            facts=facts(params, METRICS),
            verdict=_of("comparisons.json", "sentences", list),
            limits=_of("comparisons.json", "limits", list),
            seeds=seeds,
            samples=sampled(SAMPLES, conditions, seeds[0], steps, prompts, same),
            compared=_of("comparisons.json", "table", dict),
            # The table `learning` repeats rows of other tables.
            tables=[
                table
                for table in _of("results.json", "tables", list)
                if table["name"] != "learning"
            ],
            curves=curve_figures(PLOTS, curves_of(tasks)),
            differences=difference_figures(PLOTS),
            usage=usage_figure(PLOTS),
            checks=checks(exports, tolerance, same),
            exports=exports,
            tolerance=tolerance,
            sources=sources(params["fetch"]),
            stages=stages,
            graph=draw_graph(stages),
        )
    )
    write_bytes(OUTPUT, page)
    print(f"report: {OUTPUT}, {len(page) / 1e6:.1f} MB, {len(stages)} stages")


def _of(name: str, key: str, kind: type) -> Any:
    """Return the value of `key` in a file of plots/; raise PipelineError if it is not a `kind`."""
    found = read_json(PLOTS / name, dict).get(key)
    if not isinstance(found, kind):
        raise PipelineError(f"{PLOTS / name}: no {key}; run dvc repro")
    return found


if __name__ == "__main__":
    run_stage(main)
