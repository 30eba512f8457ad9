"""Write the templates of `dvc plots`, the charts that the report has too.

    python -m tools.generated.plot_templates

Reads nothing: the charts are those of model/report/vega.py. Writes .dvc/plots/*.json, which git keeps.
"""

import json
from pathlib import Path

from common.files import write_bytes
from model.report.vega import curves, page
from model.report.vega_rows import by_unit, differences, usage
from model.report.vega_words import Spec
from pipeline.declared.command_lines import command_line

FOLDER = Path(".dvc/plots")
_TITLE, _WIDTH, _HEIGHT = (
    "<DVC_METRIC_TITLE>",
    "<DVC_METRIC_PLOT_WIDTH>",
    "<DVC_METRIC_PLOT_HEIGHT>",
)
_X, _X_LABEL, _Y_LABEL = "<DVC_METRIC_X>", "<DVC_METRIC_X_LABEL>", "<DVC_METRIC_Y_LABEL>"
_LINES = 4  # two conditions of two revisions


def templates() -> dict[str, Spec]:
    """Return every template by its name, with DVC's anchors where it puts data, title and axes."""
    named = {
        "curve": {},
        "curve_fitted": {"fitted": True},
        "curve_log": {"log_x": True},
        "curve_shared": {"shared": True},
        "parity": {"log_x": True, "log_y": True},
    }
    specs = {
        name: page(
            _TITLE, curves(_X, _X_LABEL, _Y_LABEL, revisions=True, **settings), _WIDTH, _HEIGHT
        )
        for name, settings in named.items()
    }
    specs["usage"] = page(_TITLE, usage(_LINES, revisions=True), _WIDTH)
    specs["differences"] = by_unit(differences(_LINES // 2, revisions=True), _TITLE, _WIDTH)
    return {name: {**spec, "data": {"values": "<DVC_METRIC_DATA>"}} for name, spec in specs.items()}


def text(spec: Spec) -> bytes:
    return json.dumps(spec, indent=1, ensure_ascii=False).encode() + b"\n"


def main() -> None:
    command_line("tools.generated.plot_templates", __doc__, changes=True).parse_args()
    for name, spec in templates().items():
        write_bytes(FOLDER / f"{name}.json", text(spec))


if __name__ == "__main__":
    main()
