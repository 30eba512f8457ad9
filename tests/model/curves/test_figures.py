"""Parity's points, curves over seeds, round ticks, and the picture of evidence."""

import json

import pytest
from chart_points import CONDITIONS, points, training_picture
from demo_charts import CHARTS, CURVES, TASK_CHARTS
from PIL import Image

from common.errors import PipelineError
from model.curves.all_figures import draw_curves
from model.curves.evidence import draw_evidence
from model.curves.fact_usage import Usage
from model.curves.panels import Place, legend_columns, over_seeds, round_numbers
from model.curves.parity import PARITY_FLOOR, parity_point, tolerance_to_show
from model.curves.points import Point, Progress, chart_csv

PLACE = Progress(5, 100, 300)


def parity_json(folder, difference):
    path = folder / "parity.json"
    path.write_text(json.dumps({"max_abs_logit_difference": difference, "weights_sha256": "ab"}))
    return path


@pytest.mark.parametrize(
    ("difference", "value"), [(7.5e-6, 7.5e-6), (6.1, 6.1), (0.0, PARITY_FLOOR), (0, PARITY_FLOOR)]
)
def test_no_difference_stands_at_the_floor_where_a_logarithmic_axis_can_show_it(
    tmp_path, difference, value
):
    point = parity_point(parity_json(tmp_path, difference), "baseline", 1, PLACE)
    assert point == Point("baseline", 1, "", 5, 100, 300, value)


@pytest.mark.parametrize("difference", [None, "0.1", -1e-6, float("nan"), float("inf"), [1]])
def test_a_damaged_parity_is_named(tmp_path, difference):
    with pytest.raises(
        PipelineError, match=r"parity\.json: not the export stage's \(.*\); run dvc repro export$"
    ):
        parity_point(parity_json(tmp_path, difference), "baseline", 1, PLACE)


def test_the_tolerance_is_a_column_of_the_parity_chart_only_and_not_once_it_was_given_up():
    assert [tolerance_to_show(tolerance) for tolerance in (1e-4, 0.99, 1.0, 1e9)] == [
        1e-4,
        0.99,
        None,
        None,
    ]
    for chart in CURVES:
        rows = chart_csv(chart, points()[chart.name], 1e-4).decode().splitlines()
        assert rows[-1].rpartition(",")[2] == ("0.0001" if chart.name == "parity" else "")
    assert chart_csv(CHARTS["parity"], points()["parity"], None).decode().endswith(",\n")


def test_one_seed_is_drawn_as_it_is():
    own = [
        Point("baseline", 1, "", step, 20 * step, 60 * step, 0.1 * step, 0.05, 0.95)
        for step in (5, 3)
    ]
    assert over_seeds(own, "tokens") == [
        Place(60, 0.1 * 3, 0.05, 0.95),
        Place(100, 0.1 * 5, 0.05, 0.95),
    ]
    assert over_seeds([own[0]._replace(low=None, high=None)], "step") == [Place(5, 0.5, None, None)]


def test_several_seeds_are_drawn_as_their_mean_from_the_lowest_low_to_the_highest_high():
    first = Point("baseline", 1, "", 5, 100, 300, 0.25, 0.125, 0.5)
    second = first._replace(seed=2, original_bytes=302, value=0.75, low=0.25, high=1.0)
    assert over_seeds([first, second], "original_bytes") == [Place(301, 0.5, 0.125, 1.0)]
    bare = [point._replace(low=None, high=None) for point in (first, second)]
    assert over_seeds(bare, "tokens") == [Place(100, 0.5, 0.25, 0.75)]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (256_000, 1_638_400, [300_000, 500_000, 1_000_000]),
        (1e8, 1e10, [1e8, 3e8, 1e9, 3e9, 1e10]),
        (1e5, 1e9, [1e5, 1e6, 1e7, 1e8, 1e9]),
        (600, 900, []),
        (1000, 1000, [1000]),
    ],
)
def test_a_logarithmic_axis_has_round_ticks_within_it(low, high, ticks):
    assert round_numbers(low, high) == ticks


def test_a_legend_wider_than_the_picture_has_more_rows():
    assert legend_columns(["baseline", "mul_tokens", "chance"]) == 3
    assert legend_columns(["a" * 40] * 7) == 3
    assert legend_columns(["a" * 400]) == 1


def usages(seeds, facts=30) -> list[Usage]:
    runs = [
        Usage("mul_tokens", seed, "answers: that have a fact", facts + seed, 100) for seed in seeds
    ]
    zeros = [usage._replace(condition="baseline", facts=0) for usage in runs]
    documents = [
        Usage(condition, None, "tokens that are facts", 0, 1000) for condition in CONDITIONS
    ]
    return [*documents, *zeros, *runs]


def evidence(path, parity, tolerance=1e-4, used=None) -> bytes:
    draw_evidence(path, parity, tolerance, used or usages((1, 2)), CONDITIONS)
    with Image.open(path) as image:
        assert image.width > 1000
    return path.read_bytes()


def test_the_picture_of_evidence_shows_parity_tolerance_floor_and_usage(tmp_path):
    parity = points()["parity"]
    exact = [parity[0]._replace(value=PARITY_FLOOR), *parity[1:]]
    drawn = [
        evidence(tmp_path / "a.png", parity),
        evidence(tmp_path / "b.png", parity, tolerance=None),
        evidence(tmp_path / "c.png", exact),
        evidence(tmp_path / "d.png", parity, used=usages((1, 2), facts=31)),
        evidence(tmp_path / "e.png", points((1,))["parity"], used=usages((1,))),
    ]
    assert len(set(drawn)) == len(drawn)
    assert evidence(tmp_path / "again.png", parity) == drawn[0]


def test_a_single_checkpoint_can_be_drawn(tmp_path):
    """As the tests' own profile has."""
    curves = {
        name: [point for point in curve if point.step == 10] for name, curve in points().items()
    }
    draw_curves(tmp_path / "curves.png", curves, TASK_CHARTS, CONDITIONS, CONDITIONS, "Title")
    evidence(tmp_path / "evidence.png", curves["parity"])


def test_the_picture_of_training_shows_each_seed_and_not_only_their_mean(tmp_path):
    curves = points((1, 2, 3))
    whole = training_picture(tmp_path / "whole.png", curves)
    # Points of the three seeds are 0.01 apart: the mean and the band stay, the seed in the middle
    # of the first step moves.
    order = [
        number
        for number, p in enumerate(curves["sft_loss"])
        if (p.condition, p.step) == ("baseline", 5)
    ]
    values = [curves["sft_loss"][number].value for number in order]
    for number, value in zip(order, [values[1], values[0], values[2]], strict=True):
        curves["sft_loss"][number] = curves["sft_loss"][number]._replace(value=value)
    assert training_picture(tmp_path / "moved.png", curves) != whole
