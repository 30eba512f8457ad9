"""The charts of model/curves/charts.py as Vega-Lite, for the report and for `dvc plots`.

charts.yaml has the parts of the specifications with anchors such as <STEP>; this module fills in
the anchors and joins the parts.
"""

import json
from pathlib import Path
from typing import Any

import yaml

from model.curves.charts import PAIRED, Chart
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
    # A common width, so that charts below each other align.
    "axisY": {"minExtent": 44},
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
# Charts that are drawn once for each value of a column in `dvc plots`.
_FACETS = {"differences": "unit", "paired": "named"}
_HEADER = {"labelAnchor": "start", "labelFontWeight": "bold", "labelPadding": 2}
# Layers of charts.yaml for a curve, and for curves of conditions that may coincide.
_CURVE = ("seeds", "mean", "bar", "markers", "sparse", "hover", "seeds_mean")
_SHARED = ("shared", "bar", "markers", "hover", "seeds_mean")
# Columns that are drawn as lines across a chart, and their dashes in pixels. Captions name them; a
# name beside a line would lie on the curves.
_LINES = {"chance": [2, 3], "gpt2": [8, 4], "tolerance": [10, 3, 2, 3]}
LINES = tuple(_LINES)
# Pixels from one condition's bar to the next at one of several checkpoints.
_CLOSE = "min(5, 150 / datum.steps / datum.places)"
# The parameter with the reader's choice of an x axis, and the column that it fills.
_CHOSEN, _PROGRESS = "against", "progress"
# Pixels: heights of the report's charts, then a row's name and each of its lines.
_HEIGHTS = {"curve": 260, "paired": 120}
_NAME, _LINE = 18, 16


def template(chart: Chart, conditions: int) -> Spec:
    """Return the template of `dvc plots`, with room for `conditions` conditions of two revisions.

    <DVC_METRIC_…> are DVC's anchors, which it replaces. In a chart with several x axes the reader
    can choose one.
    """
    width, title = "<DVC_METRIC_PLOT_WIDTH>", "<DVC_METRIC_TITLE>"
    lines = 2 * (conditions - 1 if chart.shape == "differences" else conditions)
    anchors = {"<DVC_METRIC_X>": _PROGRESS} if len(chart.x) > 1 else {}
    height = 110 if chart.shape == "paired" else "<DVC_METRIC_PLOT_HEIGHT>"
    spec = _page(chart, _read(chart, anchors, lines), width, height)
    if len(chart.x) > 1:
        spec = _with_choice(spec, chart)
    if chart.shape in _FACETS:
        spec = _faceted(spec, _FACETS[chart.shape])
    return {**spec, "title": {"text": title}, "data": {"values": "<DVC_METRIC_DATA>"}}


def report_chart(chart: Chart, x: str, conditions: int) -> Spec:
    """Return the report's chart against column `x`: one revision, without data."""
    labels = {"X_LABEL": chart.x_label(x), "Y_LABEL": chart.y_label, "X": x}
    anchors = {f"<DVC_METRIC_{name}>": text for name, text in labels.items()}
    height = _HEIGHTS.get(chart.shape, _HEIGHTS["curve"])
    whole = _page(chart, _read(chart, anchors, conditions), "container", height)
    spec: Spec = _without_revisions(whole)
    return spec


def paired_chart(chart: Chart, x: str, conditions: int) -> Spec:
    """Return the report's chart of the paired differences of `chart`, drawn below it.

    It has no legend of its own.
    """
    spec = report_chart(PAIRED._replace(log_x=chart.log_x), x, conditions)
    found: Spec = _without_legends(spec)
    return found


def _with_choice(spec: Spec, chart: Chart) -> Spec:
    """Return a chart whose reader can choose the x axis; DVC's own x is chosen first."""
    labels = {x: chart.x_label(x) for x in chart.x}
    bind = {"input": "select", "options": [*labels], "labels": [*labels.values()]}
    choice = {"name": _CHOSEN, "value": "<DVC_METRIC_X>", "bind": {**bind, "name": "against "}}
    column = {"calculate": f"datum[{_CHOSEN}]", "as": _PROGRESS}
    numbers = sum("toNumber" in str(each) for each in spec["transform"])
    transforms = [*spec["transform"][:numbers], column, *spec["transform"][numbers:]]
    # Vega-Lite allows an expression in a text mark, but not in an axis's title.
    said = {"expr": f"{json.dumps(labels)}[{_CHOSEN}]"}
    place = {"x": {"expr": "width / 2"}, "y": {"expr": "height"}, "dy": 34}
    words: Spec = {
        "data": {"values": [{}]},
        "mark": {"type": "text", "style": "row-label", "text": said, **place},
        "encoding": dict.fromkeys(("x", "y", "color")),
    }
    spec["encoding"]["x"]["title"] = None
    return {
        **spec,
        "params": [choice],
        "transform": transforms,
        "layer": [*spec["layer"], words],
    }


def _read(chart: Chart, anchors: dict[str, str], lines: int) -> Spec:
    """Return the parts of the chart's shape with all anchors replaced, `anchors` among them.

    A chart of rows has `lines` lines in each row.
    """
    text = Path(__file__).with_name("charts.yaml").read_text(encoding="utf-8")
    step = _NAME + _LINE * max(lines, 1)
    filled: dict[str, Any] = {"<STEP>": step, "<END>": 0.9 * step, "<COLOURS>": len(COLOURS)}
    # Charts of checkpoints put the conditions beside each other.
    is_close = chart.log_x or chart.shape == "paired"
    filled |= {"<GREY>": f"'{GREY}'", "<CLOSE>": _CLOSE if is_close else 0, "<LINE>": _LINE}
    row = {"<ROW>": "row" if chart.shape == "differences" else chart.y}
    for anchor, value in {**filled, **row, **anchors}.items():
        text = text.replace(anchor, str(value))
    # YAML aliases give one object in several places. Through JSON each place gets a copy, so that
    # changing one leaves the others.
    parts = json.loads(json.dumps(yaml.safe_load(text)[chart.shape]))
    if chart.shape == "curve":
        return _curve(chart, parts)
    if chart.shape == "paired":
        parts["encoding"]["x"]["scale"] = _x_scale(chart)
        return {**parts}
    return {**parts, "height": {"step": step, "for": "position"}}


def _x_scale(chart: Chart) -> Spec:
    """Return the x scale: logarithmic or linear, with room (pixels) at its ends."""
    padding = 20 if chart.shape == "paired" else 4
    scale = {"type": "log", "padding": 16} if chart.log_x else {"zero": False, "padding": padding}
    return {**scale, "nice": False}


def _curve(chart: Chart, parts: Spec) -> Spec:
    """Return a curve's parts: only the filters and layers that the chart needs, and its scales."""
    filters = [each for key, each in parts["filters"].items() if getattr(chart, key)]
    x, y = parts["encoding"]["x"], parts["encoding"]["y"]
    x["scale"] = _x_scale(chart)
    y["scale"] = {"type": "log"} if chart.log_y else {"zero": False}
    y["axis"] = {"format": ".0e"} if chart.log_y else {}
    names = _SHARED if chart.may_coincide else _CURVE
    return {
        "numbers": parts["numbers"],
        "transform": [*parts["transform"], *filters],
        "encoding": parts["encoding"],
        "layer": [*(parts["layers"][name] for name in names), *_lines_across(chart)],
    }


def _lines_across(chart: Chart) -> list[Spec]:
    """Return a layer for each reference line of the chart; it shows only if the data have it."""
    layers: list[Spec] = []
    for column in chart.lines:
        known = [{"filter": f"isValid(datum.{column})"}]
        rule = {"type": "rule", "style": "reference", "strokeWidth": 1.2}
        place: Spec = {"y": {"field": column, "aggregate": "mean"}, "color": None, "x": None}
        mark = {**rule, "strokeDash": _LINES[column]}
        layers.append({"transform": known, "mark": mark, "encoding": place})
    return layers


def _page(chart: Chart, parts: Spec, width: Any, height: Any) -> Spec:
    """Return a whole specification without data."""
    # DVC and the report pass text; these columns become numbers first.
    numbers = [_number(field) for field in parts.pop("numbers")]
    spec = {"$schema": SCHEMA, "width": width, "height": height, **parts, "config": CONFIG}
    spec["transform"] = [*numbers, *parts["transform"]]
    if chart.shape in ("differences", "paired"):
        # The first condition has no row here, so its look moves to the end and every other one
        # keeps the look that it has in the other charts.
        ranges = {key: [*looks[1:], looks[0]] for key, looks in CONFIG["range"].items()}
        spec["config"] = {**CONFIG, "range": ranges}
    return spec


def _number(field: str) -> Spec:
    """Return the transform that converts text to a number, and an empty text to null."""
    value = f"datum['{field}']"
    known = f"isValid({value}) && {value} !== ''"
    return {"calculate": f"{known} ? toNumber({value}) : null", "as": field}


def _faceted(spec: Spec, field: str) -> Spec:
    """Return `spec` repeated for each value of `field`, each with its own axis of values."""
    parts = ("layer", "encoding", "height", "width")
    inner = {key: spec.pop(key) for key in parts if key in spec}
    header = {**_HEADER, "title": None, "labelOrient": "top"}
    # In a facet, a null sort order means the alphabet. Sort by the row number to keep the data's
    # order.
    order = {"field": "read", "op": "min"}
    facet = {"row": {"field": field, "type": "nominal", "sort": order, "header": header}}
    apart = ("y",) if "encoding" in inner else ("x", "y", "yOffset")
    resolve = {"scale": dict.fromkeys(apart, "independent")}
    return {**spec, "facet": facet, "spec": inner, "resolve": resolve}


def _without_legends(part: Any) -> Any:
    """Return a part of a specification without the legends of its encodings."""
    if isinstance(part, dict):
        kept = {key: _without_legends(value) for key, value in part.items()}
        return {**kept, "legend": None} if "field" in kept and "legend" in kept else kept
    return [_without_legends(value) for value in part] if isinstance(part, list) else part


def _without_revisions(part: Any) -> Any:
    """Return a part of a specification without the encodings that tell revisions apart."""

    def is_kept(value: Any) -> bool:
        return not (isinstance(value, dict) and value.get("field") == "rev")

    if isinstance(part, dict):
        if part.get("field") == "marker":
            return _without_revisions({**part, "field": "condition"})
        return {key: _without_revisions(value) for key, value in part.items() if is_kept(value)}
    if isinstance(part, list):
        return [_without_revisions(value) for value in part if is_kept(value)]
    return part
