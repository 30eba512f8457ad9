"""Charts with a row for each figure: differences of conditions with their intervals, and how often facts are used."""

from typing import Any

from model.curves.style import COLOURS
from model.report.vega import CONFIG, REVISION, SCHEMA, SHAPES, condition, numbers
from model.report.vega_words import Spec, of_revision

_NAME = 18  # pixels at the top of a row, for its name: beside the chart it would leave no room on a phone
_LINE = 16  # pixels for each of the conditions, and of the revisions, in a row
_GAP = 0.1  # of a row, to the next
_BAND = {
    "type": "nominal",
    "sort": None,
    "axis": None,
    "scale": {"type": "band", "paddingInner": _GAP, "paddingOuter": 0},
}
_WHO = {"calculate": "datum.condition + (isValid(datum.rev) ? ', ' + datum.rev : '')", "as": "who"}


def differences(lines: int, revisions: bool = False) -> Spec:
    """Return the layers of plots/differences.csv, a row for each model and figure of one unit, with room for `lines` in each.

    Filled points differ by more than other items explain; the pale bar is what is too small to be
    seen with so many items and seeds.
    """
    rows = [
        *numbers("difference", "low", "high", "holm_p", "items", "seeds", "detectable"),
        {"calculate": "datum.figure + ', ' + datum.model", "as": "row"},
        _WHO,
        _or_none("holm_p", ".3~g", "Holm p"),
        _or_none("detectable", ".4~f", "detectable from"),
        {
            "calculate": "format(datum.low, '+.4~f') + ' to ' + format(datum.high, '+.4~f')",
            "as": "95 % interval",
        },
        {"calculate": "-datum.detectable", "as": "least"},
    ]
    place = _place("row", lines)
    x: Spec = {
        "field": "difference",
        "type": "quantitative",
        "title": "difference from the first condition",
    }
    x["axis"] = {"format": "+~g", "tickCount": 5}
    tooltip = {"tooltip": [*_difference_tooltip(), *of_revision(revisions)]}
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    unseen = {"x": {**x, "field": "least"}, "x2": {"field": "detectable"}}
    dash = {"strokeDash": REVISION} if revisions else {}
    point = {"type": "point", "size": 70, "strokeWidth": 2, "opacity": 1}
    shown = {"condition": {"test": "datum.differs == 'yes'", "value": 1}, "value": 0}
    here = {
        **place,
        "x": x,
        **condition(),
        **condition("shape", scale={"range": [*SHAPES[1:], SHAPES[0]]}),
        **tooltip,
    }
    layers = [
        {"mark": {"type": "bar", "style": "unseen"}, "encoding": {**place, **unseen, **tooltip}},
        {"mark": {"type": "rule", "style": "reference"}, "encoding": {"x": {"datum": 0}}},
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {**place, **ends, **condition(), **dash, **tooltip},
        },
        {"mark": {**point, "filled": False}, "encoding": here},
        {"mark": {**point, "filled": True}, "encoding": {**here, "opacity": shown}},
        {**_names("row"), "transform": []},
    ]
    return {"transform": rows, "layer": layers, "height": _height(lines)}


def by_unit(layers: Spec, title: Any, width: Any) -> Spec:
    """Return `differences` for data of several units, below each other: they share no axis."""
    inner = {"layer": layers["layer"], "height": layers["height"], "width": width}
    header = {
        "title": None,
        "labelOrient": "top",
        "labelAnchor": "start",
        "labelFontWeight": "bold",
        "labelPadding": 2,
    }
    facet = {"row": {"field": "unit", "type": "nominal", "sort": None, "header": header}}
    resolve = {"scale": {"x": "independent", "y": "independent", "yOffset": "independent"}}
    top = {"$schema": SCHEMA, "title": {"text": title}, "transform": layers["transform"]}
    return {**top, "facet": facet, "spec": inner, "resolve": resolve, "config": others(CONFIG)}


def others(config: Spec) -> Spec:
    """Return `config` with the first condition's colour last: it is what the others are compared with, and has no row."""
    first, *rest = config["range"]["category"]
    return {**config, "range": {"category": [*rest, first]}}


def usage(lines: int, revisions: bool = False) -> Spec:
    """Return the layers of plots/fact_usage.csv: a bar for the mean of a condition's seeds, a tick for each seed."""
    place = _place("where", lines)
    x = {
        "field": "share",
        "type": "quantitative",
        "title": "share that is facts",
        "axis": {"format": ".2~%", "tickCount": 4},
    }
    texts = [{"field": name, "type": "nominal"} for name in ("where", "condition", "seed")]
    counts = [{"field": name, "type": "quantitative", "format": ","} for name in ("facts", "total")]
    share = {"field": "share", "type": "quantitative", "format": ".3%"}
    tooltip = {"tooltip": [*texts, *counts, share, *of_revision(revisions)]}
    groups = ["where", "condition", "rev", "who"]
    most = [
        {"op": "max", "field": "share", "as": "highest"},
        {"op": "max", "field": "conditions", "as": "conditions"},
    ]
    average = {
        "aggregate": [{"op": "mean", "field": "share", "as": "share"}, *most],
        "groupby": groups,
    }
    # Bars have no marker: where conditions are more than colours, each has its name.
    name = f"(datum.conditions > {len(COLOURS)} ? ', ' + datum.condition : '')"
    said = {
        "calculate": f"format(datum.share, '.2~%') + {name} + (isValid(datum.rev) ? ', ' + datum.rev : '')",
        "as": "said",
    }
    mark = {"type": "text", "style": "reference-label", "align": "left", "dx": 6}
    beside = {"text": {"field": "said", "type": "nominal"}, "x": {**x, "field": "highest"}}
    layers = [
        {
            "transform": [average],
            "mark": {"type": "bar", "opacity": 0.8},
            "encoding": {**place, "x": x, **condition(), **tooltip},
        },
        {
            "mark": {"type": "tick", "style": "reference", "thickness": 2},
            "encoding": {**place, "x": x, **tooltip},
        },
        {"transform": [average, said], "mark": mark, "encoding": {**place, **beside}},
        _names("where"),
    ]
    conditions = {"joinaggregate": [{"op": "distinct", "field": "condition", "as": "conditions"}]}
    return {
        "transform": [*numbers("facts", "total", "share"), _WHO, conditions],
        "layer": layers,
        "height": _height(lines),
    }


def _height(lines: int) -> Spec:
    return {"step": _NAME + _LINE * max(lines, 1), "for": "position"}


def _place(field: str, lines: int) -> Spec:
    inside = {"type": "band", "range": [_NAME, (1 - _GAP) * _height(lines)["step"]]}
    return {
        "y": {"field": field, **_BAND},
        "yOffset": {"field": "who", "type": "nominal", "sort": None, "scale": inside},
    }


def _names(field: str) -> Spec:
    once = {"aggregate": [{"op": "count", "as": "rows"}], "groupby": [field]}
    mark = {"type": "text", "style": "row-label", "align": "left", "baseline": "top", "dy": 2}
    encoding = {
        "x": {"value": 0},
        "y": {"field": field, **_BAND, "bandPosition": 0},
        "text": {"field": field, "type": "nominal"},
    }
    return {"transform": [once], "mark": mark, "encoding": encoding}


def _or_none(field: str, form: str, name: str) -> Spec:
    """Return the calculation of a number's text, `none` where it is missing: Vega formats that as 0."""
    return {
        "calculate": f"isValid(datum.{field}) ? format(datum.{field}, '{form}') : 'none'",
        "as": name,
    }


def _difference_tooltip() -> list[Spec]:
    named = ("row", "condition", "95 % interval", "Holm p", "differs", "detectable from")
    texts = {name: {"field": name, "type": "nominal"} for name in named}
    forms = {"difference": "+.5~f", "items": ",", "seeds": ","}
    figures = {
        name: {"field": name, "type": "quantitative", "format": form}
        for name, form in forms.items()
    }
    of = ("row", "condition", "difference", "95 % interval")
    order = (*of, "Holm p", "differs", "items", "seeds", "detectable from")
    return [{**texts, **figures}[name] for name in order]
