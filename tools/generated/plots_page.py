"""Write the page that `dvc plots` fills, with its scripts in it.

    python -m tools.generated.plots_page

DVC's own page loads them from the network. Reads tools/generated/plots_page.html, model/report/charts.js and the scripts that
vl-convert-python brings. Writes .dvc/plots_page.html, which git ignores.
"""

from pathlib import Path

from common.files import write_bytes
from model.report.bundle import bundle
from pipeline.terminal.command_lines import command_line

PAGE = Path(".dvc/plots_page.html")  # named in .dvc/config
_SOURCE = Path(__file__).with_name("plots_page.html")
_CHARTS = Path(__file__).parents[2] / "model/report/charts.js"
_PLACE = "// <<scripts>>"


def plots_page() -> str:
    scripts = bundle() + "\n" + _CHARTS.read_text(encoding="utf-8")
    return _SOURCE.read_text(encoding="utf-8").replace(_PLACE, scripts)


def main() -> None:
    command_line("tools.generated.plots_page", __doc__, changes=True).parse_args()
    write_bytes(PAGE, plots_page().encode())


if __name__ == "__main__":
    main()
