"""The table's charts as Vega-Lite: for the report, and as templates of `dvc plots`.

charts.yaml has the specifications; this module fills them in and puts them together.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from model.curves.charts import Chart
from model.curves.style import COLOURS, GREY, SHAPES

Spec = dict[str, Any]
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_FONTS = {"labelFontSize": 11, "titleFontSize": 12, "titleFontWeight": "normal"}
_TOP = {"direction": "vertical", "anchor": "start"}
CONFIG: Spec = {
    "font": "system-ui, sans-serif",
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {**_FONTS, "gridOpacity": 0.5, "tickCount": 5, "labelSeparation": 6},
    "legend": {"labelFontSize": 12, "labelLimit": 260, "layout": {"top": _TOP}},
    "title": {"fontSize": 13, "anchor": "start", "offset": 8},
    "range": {"category": list(COLOURS), "symbol": list(SHAPES)},
    "style": {
        "reference": {"color": GREY},
        "reference-label": {"color": GREY, "fontSize": 11},
        "row-label": {"fontSize": 11.5},
        "unseen": {"color": GREY, "fillOpacity": 0.16},
    },
}
_HEADER = {"labelAnchor": "start", "labelFontWeight": "bold", "labelPadding": 2}
_CURVE = ("band", "seeds", "mean", "bar", "markers", "sparse", "hover", "seeds_mean")
_SHARED = ("shared", "bar", "markers", "hover", "seeds_mean")
# Columns that are lines across a chart: their names and dashes.
_LINES = {
    "chance": ("chance", [2, 3]),
    "gpt2": ("OpenAI gpt2, 124M", [8, 4]),
    "tolerance": ("the gate's tolerance", [10, 3, 2, 3]),
}
LINES = tuple(_LINES)
_NAME, _LINE = 18, 16  # pixels of a row: its name, and each of its lines


def template(chart: Chart) -> Spec:
    """Return the template of `dvc plots`, with room for two conditions of two revisions."""
    width, title = "<DVC_METRIC_PLOT_WIDTH>", "<DVC_METRIC_TITLE>"
    lines = 2 if chart.shape == "differences" else 4
    spec = _page(chart, _read(chart, {}, lines), width, "<DVC_METRIC_PLOT_HEIGHT>")
    if chart.shape == "differences":
        spec = _by_unit(spec)
    return {**spec, "title": {"text": title}, "data": {"values": "<DVC_METRIC_DATA>"}}


def report_chart(chart: Chart, x: str, conditions: int) -> Spec:
    """Return the chart of one revision against column `x`, without data."""
    labels = {"X_LABEL": chart.x_label(x), "Y_LABEL": chart.y_label, "X": x}
    anchors = {f"<DVC_METRIC_{name}>": text for name, text in labels.items()}
    return _without_revisions(_page(chart, _read(chart, anchors, conditions), "container", 260))


def _read(chart: Chart, anchors: dict[str, str], lines: int) -> Spec:
    """Return the parts of the chart's shape; `anchors` are replaced as DVC does."""
    text = Path(__file__).with_name("charts.yaml").read_text(encoding="utf-8")
    step = _NAME + _LINE * max(lines, 1)
    filled = {"<STEP>": step, "<END>": 0.9 * step, "<COLOURS>": len(COLOURS), "<GREY>": f"'{GREY}'"}
    row = {"<ROW>": "row" if chart.shape == "differences" else chart.y}
    for anchor, value in {**filled, **row, **anchors}.items():
        text = text.replace(anchor, str(value))
    # Through JSON, so that no two places of the specification are one object.
    parts = json.loads(json.dumps(yaml.safe_load(text)[chart.shape]))
    if chart.shape == "curve":
        return _curve(chart, parts)
    return {**parts, "height": {"step": step, "for": "position"}}


def _curve(chart: Chart, parts: Spec) -> Spec:
    """Return the parts that the chart needs, with its scales."""
    filters = [each for key, each in parts["filters"].items() if getattr(chart, key)]
    x, y = parts["encoding"]["x"], parts["encoding"]["y"]
    x["scale"] = {"type": "log", "padding": 16} if chart.log_x else {"zero": False, "padding": 4}
    x["scale"]["nice"] = False
    y["scale"] = {"type": "log"} if chart.log_y else {"zero": False}
    y["axis"] = {"format": ".0e"} if chart.log_y else {}
    names = _SHARED if chart.is_shared else _CURVE
    return {
        "numbers": parts["numbers"],
        "transform": [*parts["transform"], *filters],
        "encoding": parts["encoding"],
        "layer": [*(parts["layers"][name] for name in names), *_lines_across(chart)],
    }


def _lines_across(chart: Chart) -> list[Spec]:
    """Return a line and its name for each column that is one, where the data have it."""
    label = {"type": "text", "style": "reference-label", "align": "right", "dy": -6}
    layers = []
    for column in chart.lines:
        name, dashes = _LINES[column]
        known = [{"filter": f"isValid(datum.{column})"}]
        rule = {"type": "rule", "style": "reference", "strokeDash": dashes, "strokeWidth": 1.2}
        place = {"y": {"field": column, "aggregate": "mean"}, "color": None}
        at_end = {**place, "x": {"value": "width"}}
        layers.append({"transform": known, "mark": rule, "encoding": {**place, "x": None}})
        layers.append({"transform": known, "mark": {**label, "text": name}, "encoding": at_end})
    return layers


def _page(chart: Chart, parts: Spec, width: Any, height: Any) -> Spec:
    numbers = [_number(field) for field in parts.pop("numbers")]
    spec = {"$schema": SCHEMA, "width": width, "height": height, **parts, "config": CONFIG}
    spec["transform"] = [*numbers, *parts["transform"]]
    if chart.shape == "differences":
        # All are compared with the first condition, which has no row: its look comes last.
        ranges = {key: [*looks[1:], looks[0]] for key, looks in CONFIG["range"].items()}
        spec["config"] = {**CONFIG, "range": ranges}
    return spec


def _number(field: str) -> Spec:
    """Return the transform that makes a number of text, and null of nothing."""
    value = f"datum['{field}']"
    known = f"isValid({value}) && {value} !== ''"
    return {"calculate": f"{known} ? toNumber({value}) : null", "as": field}


def _by_unit(spec: Spec) -> Spec:
    """Return `spec` for data of several units, below each other: they share no axis."""
    inner = {key: spec.pop(key) for key in ("layer", "height", "width")}
    header = {**_HEADER, "title": None, "labelOrient": "top"}
    facet = {"row": {"field": "unit", "type": "nominal", "sort": None, "header": header}}
    resolve = {"scale": dict.fromkeys(("x", "y", "yOffset"), "independent")}
    return {**spec, "facet": facet, "spec": inner, "resolve": resolve}


def _without_revisions(part: Any) -> Any:
    """Return a part of a specification without what tells revisions apart."""

    def is_kept(value: Any) -> bool:
        return not (isinstance(value, dict) and value.get("field") == "rev")

    if isinstance(part, dict):
        return {key: _without_revisions(value) for key, value in part.items() if is_kept(value)}
    if isinstance(part, list):
        return [_without_revisions(value) for value in part if is_kept(value)]
    return part
