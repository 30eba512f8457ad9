"""Charts as Vega-Lite specifications, for the report and for `dvc plots` (tools/generated/plot_templates.py writes its templates).

All values of the data may be text, as in CSV, and empty where there is none. `rev`, the revision, is there in `dvc plots` only.
"""

from typing import Any

from model.curves.style import COLOURS, GREY
from model.report.vega_words import Spec, of_revision, tooltips, words

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
CONFIG: Spec = {
    "font": "system-ui, sans-serif",
    "background": "transparent",
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 11,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "gridOpacity": 0.5,
        "tickCount": 5,
        "labelSeparation": 6,
    },
    "legend": {
        "labelFontSize": 12,
        "labelLimit": 260,
        "layout": {"top": {"direction": "vertical", "anchor": "start"}},
    },
    "title": {"fontSize": 13, "anchor": "start", "offset": 8},
    "range": {"category": list(COLOURS)},
    "style": {
        "reference": {"color": GREY},
        "reference-label": {"color": GREY, "fontSize": 11},
        "row-label": {"fontSize": 11.5},
        "unseen": {"color": GREY, "fillOpacity": 0.16},
    },
}
# Their number has no divisor in common with that of colours.
_STAR = "M0.00,-1.00L0.25,-0.34L0.95,-0.31L0.40,0.13L0.59,0.81L0.00,0.42L-0.59,0.81L-0.40,0.13L-0.95,-0.31L-0.25,-0.34Z"
SHAPES = [
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left", _STAR,
]  # fmt: skip
_DASHES = [[1, 0], [6, 4], [2, 2], [10, 3, 2, 3]]
_MOST_POINTS = 24  # of one curve; beyond, markers would hide it
_FEW_POINTS = 8  # on a curve that has more, where conditions are more than colours
_MOST_HOVERED = 200  # of one curve; what is between them is as good as on them
# Columns of the data that are lines across a chart: what they are called, and their dashes.
_REFERENCES = {"chance": ("chance", [2, 3]), "gpt2": ("OpenAI gpt2, 124M", [8, 4])}
_OF_PARITY = {"tolerance": ("the gate's tolerance", [10, 3, 2, 3])}
LINES = (*_REFERENCES, *_OF_PARITY)
_LEGEND: Spec = {
    "orient": "top",
    "direction": "horizontal",
    "title": None,
    "symbolOpacity": 1,
    "symbolStrokeWidth": 2,
}
REVISION: Spec = {"field": "rev", "type": "nominal", "sort": None, "scale": {"range": _DASHES}}
REVISION["legend"] = {**_LEGEND, "symbolStrokeColor": GREY}


def page(title: str | None, layers: Spec, width: Any = "container", height: Any = 260) -> Spec:
    """Return a whole specification without data."""
    spec = {"$schema": SCHEMA, "width": width, "height": height, **layers, "config": CONFIG}
    return {**spec, "title": {"text": title}} if title else spec


def numbers(*fields: str) -> list[Spec]:
    """Return transforms that make numbers of text, and null of nothing."""
    return [
        {
            "calculate": f"isValid(datum['{field}']) && datum['{field}'] !== '' ? toNumber(datum['{field}']) : null",
            "as": field,
        }
        for field in fields
    ]


def condition(channel: str = "color", **settings: Any) -> Spec:
    """Return the encoding by which conditions are told apart, in the order of the data."""
    scale = {"scale": {"range": SHAPES}} if channel == "shape" else {}
    return {
        channel: {
            "field": "condition",
            "type": "nominal",
            "sort": None,
            "legend": _LEGEND,
            **scale,
            **settings,
        }
    }


def curves(
    x: str,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    fitted: bool = False,
    shared: bool = False,
    revisions: bool = False,
) -> Spec:
    """Return the layers of a chart of plots/CHART.csv against its column `x`.

    A line for each condition is the mean of its seeds, with a faint line for each if there are several, and a band from the
    lowest to the highest end of their intervals. The training split is thin. `fitted` leaves out the first tenth of training;
    `shared` is for curves that lie on each other, so that each is seen beside the next.

    Of one step there is no curve: each run has a marker, a bar stands for the band, and a filled marker for the mean of seeds.
    Where the whole chart is of one step, the conditions stand beside each other.
    """
    references = _REFERENCES if not log_y else _OF_PARITY
    rows = numbers("step", "tokens", "original_bytes", "value", "low", "high", *references)
    rows.append(
        {
            "filter": f"isValid(datum['{x}']) && isValid(datum.value)"
            + (f" && datum['{x}'] > 0" if log_x else "")
        }
    )
    if log_y:
        rows.append({"filter": "datum.value > 0"})
    rows += [
        {"calculate": "isValid(datum.low) ? datum.low : datum.value", "as": "lowest"},
        {"calculate": "isValid(datum.high) ? datum.high : datum.value", "as": "highest"},
        {
            "joinaggregate": [
                {"op": "distinct", "field": "seed", "as": "seeds"},
                {"op": "distinct", "field": "step", "as": "steps"},
                {"op": "distinct", "field": "condition", "as": "conditions"},
                {"op": "max", "field": "step", "as": "last"},
            ]
        },
        *_BESIDE,
    ]
    if fitted:
        rows.append({"filter": "datum.step >= 0.1 * datum.last"})
    x_scale = (
        {"type": "log", "nice": False, "padding": 16}
        if log_x
        else {"zero": False, "nice": False, "padding": 4}
    )
    y_scale = {"type": "log"} if log_y else {"zero": False}
    x_encoding = {
        "field": x,
        "type": "quantitative",
        "title": x_label,
        "scale": x_scale,
        "axis": {"format": "~s", "grid": False},
    }
    y_axis = {"format": ".0e"} if log_y else {}
    y = {
        "field": "value",
        "type": "quantitative",
        "title": y_label,
        "scale": y_scale,
        "axis": y_axis,
    }
    dash = {"strokeDash": REVISION} if revisions else {}
    layers = [] if shared else [_band(x, y)]
    bar, mean = _step(x, y, dash)
    # The legend takes the first use of shape, so the filled mean is the last.
    layers += [*_lines(x, y, dash, shared), bar, *_points(y, shared, of_revision(revisions)), mean]
    layers += _lines_across(y, references)
    return {"transform": rows, "encoding": {"x": x_encoding}, "layer": layers}


# Pixels to the right, where the whole chart is of one step.
_BESIDE: list[Spec] = [
    {"calculate": "datum.condition + (isValid(datum.rev) ? ', ' + datum.rev : '')", "as": "who"},
    {"window": [{"op": "dense_rank", "as": "place"}], "sort": [{"field": "who"}]},
    {"joinaggregate": [{"op": "max", "field": "place", "as": "places"}]},
    {
        "calculate": "datum.steps > 1 ? 0 : (datum.place - (datum.places + 1) / 2) * min(10, 120 / datum.places)",
        "as": "right",
    },
]
_TO_THE_RIGHT = {"xOffset": {"expr": "datum.right"}}


def _mean(x: str) -> Spec:
    averages = [{"op": "mean", "field": field, "as": field} for field in ("value", x)]
    bounds = [
        {"op": "min", "field": "lowest", "as": "lowest"},
        {"op": "max", "field": "highest", "as": "highest"},
    ]
    same = [{"op": "max", "field": field, "as": field} for field in ("right", "seeds")]
    return {
        "aggregate": [*averages, *bounds, *same],
        "groupby": ["condition", "rev", "split", "step"],
    }


def _band(x: str, y: Spec) -> Spec:
    several = {"joinaggregate": [{"op": "distinct", "field": "rev", "as": "revisions"}]}
    shown = {"filter": "datum.split !== 'train' && datum.highest > datum.lowest"}
    ends = {"y": {**y, "field": "lowest"}, "y2": {"field": "highest"}}
    light = {
        "opacity": {"condition": {"test": "datum.revisions > 1", "value": 0.08}, "value": 0.15}
    }
    detail = {"detail": [{"field": "rev"}, {"field": "split"}]}
    return {
        "transform": [_mean(x), several, shown],
        "mark": {"type": "area", "tooltip": None},
        "encoding": {**ends, **condition(), **light, **detail},
    }


def _step(x: str, y: Spec, dash: Spec) -> tuple[Spec, Spec]:
    """Return the layers that stand for the band and the mean line of a curve of one step."""
    count = {
        "joinaggregate": [{"op": "count", "as": "points"}],
        "groupby": ["condition", "rev", "split"],
    }
    only = [_mean(x), count, {"filter": "datum.split !== 'train' && datum.points === 1"}]
    ends = {"y": {**y, "field": "lowest"}, "y2": {"field": "highest"}}
    bar = {
        "transform": [*only, {"filter": "datum.highest > datum.lowest"}],
        "mark": {
            "type": "rule",
            "strokeWidth": 1.6,
            "opacity": 0.7,
            "tooltip": None,
            **_TO_THE_RIGHT,
        },
        "encoding": {**ends, **condition(), **dash},
    }
    mean = {
        "transform": [*only, {"filter": "datum.seeds > 1"}],
        "mark": {"type": "point", "filled": True, "size": 60, "tooltip": None, **_TO_THE_RIGHT},
        "encoding": {"y": y, **condition(), **condition("shape")},
    }
    return bar, mean


def _lines(x: str, y: Spec, dash: Spec, shared: bool) -> list[Spec]:
    widths = {"condition": {"test": "datum.split === 'train'", "value": 1.2}, "value": 2.4}
    if shared:  # the later the thinner, whatever their number
        scale = {"type": "point", "range": [7, 0.7]}
        widths = {
            "field": "condition",
            "type": "ordinal",
            "sort": None,
            "scale": scale,
            "legend": None,
        }
    seeds = {
        "transform": [{"filter": "datum.seeds > 1"}],
        "mark": {"type": "line", "strokeWidth": 0.8, "opacity": 0.35},
        "encoding": {
            "y": y,
            **condition(),
            **dash,
            "detail": [{"field": "seed"}, {"field": "split"}],
        },
    }
    faint = {
        "condition": {"test": "datum.split === 'train'", "value": 1 if shared else 0.75},
        "value": 1,
    }
    mean = {
        "transform": [_mean(x)],
        "mark": {"type": "line"},
        "encoding": {
            "y": y,
            **condition(),
            **dash,
            "strokeWidth": widths,
            "opacity": faint,
            "detail": [{"field": "split"}],
        },
    }
    return [mean] if shared else [seeds, mean]


def _points(y: Spec, shared: bool, revision: list[Spec]) -> list[Spec]:
    run = ["condition", "seed", "split", "rev"]
    few = [
        {"joinaggregate": [{"op": "count", "as": "points"}], "groupby": run},
        {
            "filter": f"datum.points === 1 || datum.split !== 'train' && datum.points <= {_MOST_POINTS}"
        },
    ]
    smaller = {"condition": {"test": "datum.seeds > 1", "value": 28}, "value": 50}
    marks = {
        "transform": few,
        "mark": {
            "type": "point",
            "filled": False,
            "strokeWidth": 1.8,
            "opacity": 1,
            **_TO_THE_RIGHT,
        },
        "encoding": {"y": y, **condition(), **condition("shape"), "size": smaller},
    }
    number = {"window": [{"op": "row_number", "as": "number"}], "groupby": run}
    more = f"datum.points > {_MOST_POINTS} || datum.split === 'train' && datum.points > 1"
    sparse = {
        "transform": [
            few[0],
            number,
            {"filter": f"datum.conditions > {len(COLOURS)} && ({more})"},
            {"filter": f"datum.number % ceil(datum.points / {_FEW_POINTS}) === 0"},
        ],
        "mark": {
            "type": "point",
            "filled": False,
            "strokeWidth": 1.2,
            "opacity": 0.8,
            "size": 28,
            "tooltip": None,
        },
        "encoding": {"y": y, **condition(), **condition("shape")},
    }
    thinned = [
        few[0],
        number,
        {"filter": f"datum.number % ceil(datum.points / {_MOST_HOVERED}) === 0"},
        *words(),
    ]
    # Large, and not the nearest to the pointer: with `nearest`, Vega-Lite 6.4 calls all text of a tooltip undefined.
    hover = {
        "name": "hover",
        "select": {"type": "point", "on": "pointerover", "clear": "pointerout"},
    }
    shown = {"condition": {"param": "hover", "empty": False, "value": 0.4}, "value": 0}
    found = {
        "transform": thinned,
        "params": [hover],
        "mark": {"type": "point", "filled": True, "size": 400, **_TO_THE_RIGHT},
        "encoding": {
            "y": y,
            **condition(),
            **condition("shape"),
            "opacity": shown,
            "tooltip": [*tooltips(), *revision],
        },
    }
    # The last use of shape gives its scale a domain where there are no markers, without which the legend has no height.
    return [marks, found] if shared else [marks, sparse, found]


def _lines_across(y: Spec, references: dict[str, tuple[str, list[int]]]) -> list[Spec]:
    """Return a line and its name for each of `references`, where the data have it."""
    layers = []
    for field, (name, dashes) in references.items():
        height = {**y, "field": field, "aggregate": "mean"}
        known = [{"filter": f"isValid(datum.{field})"}]
        mark = {"type": "rule", "style": "reference", "strokeDash": dashes, "strokeWidth": 1.2}
        layers.append({"transform": known, "mark": mark, "encoding": {"x": None, "y": height}})
        label = {
            "type": "text",
            "style": "reference-label",
            "text": name,
            "align": "right",
            "dy": -6,
        }
        layers.append(
            {"transform": known, "mark": label, "encoding": {"x": {"value": "width"}, "y": height}}
        )
    return layers
