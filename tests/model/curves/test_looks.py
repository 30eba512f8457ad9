"""Conditions are told apart in every chart, however many there are; and of a single step intervals
and seeds are drawn.
"""

import csv
import io
import itertools
import json
import re

import matplotlib as mpl
import numpy as np
import pytest
import vl_convert
from chart_points import points
from demo_charts import CHARTS
from matplotlib.figure import Figure

from model.curves.charts import Chart
from model.curves.panels import condition_handles, draw_chart, look, seed_handles
from model.curves.points import Point, chart_csv
from model.curves.style import COLOURS, DARK_COLOURS, SHAPES
from model.report.bundle import VEGA_LITE
from model.report.vega import Spec, report_chart, template

MANY = [f"condition_{number}" for number in range(60)]
ONE_STEP = (200,)


def sample(
    chart: Chart, conditions: list[str], seeds=(1,), steps=ONE_STEP, split=""
) -> list[Point]:
    """Points that are 0.01 apart from seed to seed and 0.02 from condition to condition; accuracies
    with intervals.
    """
    found = []
    for (number, condition), seed, step in itertools.product(enumerate(conditions), seeds, steps):
        value = 0.3 + 0.02 * number + 0.01 * seed - step / 10**5
        bounds = (value - 0.03, value + 0.03) if chart.is_accuracy else ()
        found.append(Point(condition, seed, split, step, 512 * step, 1500 * step, value, *bounds))
    return found


def test_any_two_of_sixty_conditions_differ_in_curves_and_in_bars():
    looks = [look(number) for number in range(len(MANY))]
    assert len({(each.colour, each.marker) for each in looks}) == len(MANY)
    assert len({(each.colour, each.hatch) for each in looks}) == len(MANY)
    assert len(
        {(COLOURS[n % len(COLOURS)], SHAPES[n % len(SHAPES)]) for n in range(len(MANY))}
    ) == len(MANY)
    assert len(set(COLOURS)) == len(set(DARK_COLOURS)) == len(COLOURS) == len(DARK_COLOURS)
    assert look(0) != look(4), "the fifth was the first's"


def drawn(chart: Chart, curve: list[Point], conditions: list[str]):
    """Return the axes of a chart in a figure that has been laid out."""
    with mpl.rc_context():
        mpl.rcdefaults()
        figure = Figure(figsize=(4, 3))
        axis = figure.subplots()
        draw_chart(axis, chart, "tokens", curve, conditions, conditions)
        figure.draw_without_rendering()
    return axis


@pytest.mark.parametrize(
    "steps", [ONE_STEP, range(10, 51, 10), range(10, 4001, 10)], ids=["one step", "dots", "noise"]
)
@pytest.mark.parametrize(
    ("name", "split"), [("gradient_norm", "train"), ("loss", "val"), ("hellaswag_acc_norm", "")]
)
def test_the_lines_of_a_png_differ_as_the_conditions_do(name, split, steps):
    conditions = MANY[:20]
    axis = drawn(
        CHARTS[name], sample(CHARTS[name], conditions, steps=steps, split=split), conditions
    )
    wanted = {(look(number).colour, look(number).marker) for number in range(len(conditions))}
    if split == "train" and len(steps) == 1:
        wanted = {(colour, ".") for colour, _ in wanted}
    assert wanted <= {(line.get_color(), line.get_marker()) for line in axis.lines}
    handles = condition_handles(conditions, conditions)
    assert len({(handle.get_color(), handle.get_marker()) for handle in handles}) == len(conditions)


def spans(axis) -> list[tuple[float, float, float]]:
    """Return the bars of a chart: their place on the page from left to right, and both ends in the
    data's units.
    """
    bars = [line for line in axis.lines if line.get_marker() == "_"]
    left = [line.get_transform().transform(line.get_xydata())[0, 0] for line in bars]
    return [
        (place, *line.get_ydata())
        for place, line in sorted(zip(left, bars, strict=True), key=lambda pair: pair[0])
    ]


def test_a_single_step_shows_each_interval_beside_the_others():
    conditions = MANY[:3]
    chart = CHARTS["hellaswag_acc_norm"]
    curve = sample(chart, conditions)
    bars = spans(drawn(chart, curve, conditions))
    assert [bar[1:] for bar in bars] == [(point.low, point.high) for point in curve]
    assert all(after - before > 5 for (before, *_), (after, *_) in itertools.pairwise(bars)), (
        "pixels"
    )
    [label] = [handle.get_label() for handle in seed_handles([(chart, curve)])]
    assert label == "bar: 95 % interval"


@pytest.mark.parametrize("conditions", [MANY[:1], MANY[:9], MANY], ids=len)
def test_all_of_a_single_step_is_within_the_axes(conditions):
    chart = CHARTS["continuation_acc_norm"]
    axis = drawn(chart, sample(chart, conditions, (1, 2)), conditions)
    box = axis.get_window_extent()
    for line in axis.lines[:-1]:  # the last is chance
        for x, y in line.get_transform().transform(line.get_xydata()):
            assert box.x0 < x < box.x1
            assert box.y0 <= y <= box.y1


def test_a_single_step_shows_each_seed_and_their_mean():
    chart = CHARTS["hellaswag_gold_bits_per_byte"]
    curve = sample(chart, MANY[:1], (1, 2, 5))
    axis = drawn(chart, curve, MANY[:1])
    assert [bar[1:] for bar in spans(axis)] == [(curve[0].value, curve[2].value)]
    [dots] = [line.get_ydata() for line in axis.lines if line.get_marker() == "."]
    assert list(dots) == [point.value for point in curve]
    [mean] = [line.get_ydata() for line in axis.lines if line.get_marker() == look(0).marker]
    assert mean == pytest.approx([np.mean(dots)])
    labels = [handle.get_label() for handle in seed_handles([(chart, curve)])]
    assert labels == ["faint: each of 3 seeds, around their mean", "bar: lowest to highest"]


def test_the_legend_names_bars_and_seeds_as_they_are_drawn():
    one, several = points((1,)), points((1, 2))
    names = ("hellaswag_acc_norm", "loss")

    def labels(curves, at=None) -> list[str]:
        shown = [
            (
                CHARTS[name],
                [p for p in curves[name] if at is None or name == "loss" or p.step == at],
            )
            for name in names
        ]
        return [handle.get_label() for handle in seed_handles(shown)]

    assert labels(one) == labels(one, 5) == ["bar: 95 % interval"]
    assert labels(several)[1] == "bar: lowest to highest, of their 95 % intervals too"
    assert labels(several, 5)[1] == "bar: lowest to highest, of their 95 % intervals too"
    assert [handle.get_label() for handle in seed_handles([(CHARTS["loss"], several["loss"])])] == [
        "faint: each of 2 seeds, around their mean"
    ]
    assert seed_handles([(CHARTS["loss"], one["loss"])]) == [], (
        "nothing is drawn around one seed's loss"
    )


def svg(spec: Spec, rows: list[dict]) -> str:
    sized = {"width": 500} if "spec" in spec else {"width": 500, "height": 260}
    whole = {**spec, **sized, "data": {"values": rows}}
    return vl_convert.vegalite_to_svg(json.dumps(whole), vl_version=VEGA_LITE)


def vega(chart: Chart, curve: list[Point], revisions: bool = False) -> str:
    """Return the picture of the report's chart against tokens, or that of `dvc plots`."""
    rows = list(csv.DictReader(io.StringIO(chart_csv(chart, curve).decode())))
    if not revisions:
        return svg(report_chart(chart, "tokens", 1), rows)
    text = json.dumps(template(chart, 2))
    for anchor, words in (("X_LABEL", "x"), ("Y_LABEL", "y"), ("X", "tokens")):
        text = text.replace(f"<DVC_METRIC_{anchor}>", words)
    return svg(json.loads(text), rows)


def symbols(picture: str) -> set[tuple[str, str]]:
    """Return the colours of hollow markers with their shapes, the legend's left out."""
    marks = [
        mark
        for mark in re.findall('<path aria-label="[^>]*>', picture)
        if 'description="point"' in mark
    ]
    hollow = [mark for mark in marks if " fill=" not in mark]
    return {
        (re.search(' stroke="([^"]+)"', mark)[1], re.search(' d="([^"]+)"', mark)[1])
        for mark in hollow
    }


@pytest.mark.parametrize("steps", [range(10, 51, 10), range(10, 501, 10)], ids=["few", "many"])
@pytest.mark.parametrize(("name", "split"), [("gradient_norm", "train"), ("loss", "val")])
@pytest.mark.parametrize("revisions", [False, True])
def test_the_curves_of_vega_differ_as_the_conditions_do(name, split, steps, revisions):
    conditions = MANY[:12]
    curve = sample(CHARTS[name], conditions, steps=steps, split=split)
    assert len(symbols(vega(CHARTS[name], curve, revisions=revisions))) == len(conditions)


def rules(picture: str) -> list[tuple[float, float]]:
    """Return the place and the length of each bar, from left to right, in pixels."""
    found = re.findall(
        r'<line aria-label="[^"]*condition: [^>]*transform="translate\(([\d.]+),([\d.]+)\)"([^>]*)',
        picture,
    )
    return sorted(
        (float(x), abs(float(re.search(r'y2="(-?[\d.]+)"', rest)[1]))) for x, _, rest in found
    )


@pytest.mark.parametrize("seeds", [(1,), (1, 2, 5)], ids=len)
def test_vega_draws_intervals_of_a_single_step_beside_each_other(seeds):
    chart, conditions = CHARTS["hellaswag_acc_norm"], MANY[:3]
    picture = vega(chart, sample(chart, conditions, seeds))
    bars = rules(picture)
    assert len(bars) == len(conditions)
    assert all(length > 20 for _, length in bars)
    assert all(after - before >= 5 for (before, _), (after, _) in itertools.pairwise(bars))
    assert len(symbols(picture)) == len(conditions)
    steps = (100, 200, 400)
    bars = rules(vega(chart, sample(chart, conditions, seeds, steps=steps)))
    assert len(bars) == len(conditions) * len(steps)
    assert all(after - before >= 4 for (before, _), (after, _) in itertools.pairwise(bars))


def test_bars_of_vega_have_their_conditions_names_where_colours_run_out():
    def texts(conditions: list[str]) -> str:
        rows = [
            {"condition": c, "seed": 1, "where": "text", "facts": 5, "total": 100, "share": 0.05}
            for c in conditions
        ]
        return svg(report_chart(CHARTS["fact_usage"], "share", len(conditions)), rows)

    assert ">5%</text>" in texts(MANY[: len(COLOURS)])
    assert ">5%, condition_7</text>" in texts(MANY[: len(COLOURS) + 1])


def template_picture(chart: Chart, rows: list[dict]) -> str:
    """Return the picture of `dvc plots` of these rows."""
    text = json.dumps(template(chart, 2))
    for anchor, words in (("X_LABEL", "x"), ("Y_LABEL", "y"), ("X", chart.x[0])):
        text = text.replace(f"<DVC_METRIC_{anchor}>", words)
    return svg(json.loads(text), rows)


@pytest.mark.parametrize("name", ["loss", "hellaswag_acc_norm"])
def test_a_marker_is_a_revision_where_there_are_several_and_else_a_condition(name):
    chart = CHARTS[name]
    curve = sample(chart, MANY[:2], steps=(100, 200), split="val" if name == "loss" else "")
    rows = list(csv.DictReader(io.StringIO(chart_csv(chart, curve).decode())))
    found = {}
    for revisions in (("main",), ("main", "branch")):
        both = [{**row, "rev": rev} for rev in revisions for row in rows]
        found[len(revisions)] = symbols(template_picture(chart, both))
    assert len(found[1]) == 2
    assert len({shape for _, shape in found[1]}) == 2, "one of each condition"
    assert len(found[2]) == 4
    by_colour = {
        colour: {shape for other, shape in found[2] if other == colour} for colour, _ in found[2]
    }
    assert len(by_colour) == 2
    assert len({frozenset(shapes) for shapes in by_colour.values()}) == 1, "the same for both"


def difference_rows(conditions: list[str]) -> list[dict]:
    return [
        {
            "model": "step 9",
            "figure": "COPA",
            "unit": "accuracy",
            "condition": condition,
            "difference": 0.01 * number,
            "low": -0.1,
            "high": 0.1,
            "differs": "no",
            "items": 10,
            "seeds": 1,
            "detectable": 0.05,
            "holm_p": 1,
        }
        for number, condition in enumerate(conditions)
    ]


def test_a_row_is_named_once_and_the_zero_line_ends_below_its_name():
    conditions = MANY[:5]
    spec = report_chart(CHARTS["differences"], "difference", len(conditions))
    picture = svg(spec, difference_rows(conditions))
    assert picture.count(">COPA, step 9</text>") == 1
    [zero] = [each for each in spec["layer"] if each["encoding"].get("x") == {"datum": 0}]
    [name] = [each for each in spec["layer"] if each["mark"].get("style") == "row-label"]
    below = name["mark"]["dy"] + spec["config"]["style"]["row-label"]["fontSize"]
    start, end = zero["encoding"]["yOffset"]["scale"]["range"]
    assert zero["mark"]["type"] == "tick", "a rule would cross the names"
    assert below < start
    assert zero["mark"]["size"] <= (end - start) / len(conditions) + 5
    assert spec["layer"][1] == zero
    assert zero["encoding"]["x"] == {"datum": 0}


def test_conditions_stand_in_the_order_of_the_data_and_not_of_the_alphabet():
    chart = CHARTS["hellaswag_acc_norm"]
    conditions = ["b", "a", "c"]
    picture = vega(chart, sample(chart, conditions))
    places = dict(re.findall(r'condition: (\w)[^>]*transform="translate\(([\d.]+),', picture))
    assert sorted(places, key=lambda name: float(places[name])) == conditions
