"""The paired differences over training: which they are, and that they are drawn around zero."""

import pytest
from chart_points import CONDITIONS, points
from demo_charts import CHARTS, CURVES, TASKS
from matplotlib.figure import Figure

from common.errors import PipelineError
from model.comparison.outcomes import VALIDATION
from model.curves.paired import Compared, paired_csv, paired_differences, read_comparisons
from model.curves.panels import draw_differences
from model.tasks.labels import task_figures

HEADER = "model,figure,condition,difference,low,high,differs\n"


def test_comparisons_of_checkpoints_are_read_and_no_others(tmp_path):
    path = tmp_path / "differences.csv"
    rows = [
        "step 10,COPA acc_norm,mul_tokens,0.5,0.25,0.75,yes",
        "mean of 2 checkpoints,COPA acc_norm,mul_tokens,0.5,0.25,0.75,yes",
        'fine-tuned,"GSM8K, strict",mul_tokens,0.5,0.25,0.75,yes',
    ]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    found = read_comparisons(path)
    assert found == {(10, "COPA acc_norm", "mul_tokens"): Compared(0.5, 0.25, 0.75, True)}


@pytest.mark.parametrize("content", [None, "model\nstep 1\n", HEADER + "step 1,a,b,x,1,2,no\n"])
def test_a_damaged_file_of_comparisons_is_named(tmp_path, content):
    path = tmp_path / "differences.csv"
    if content:
        path.write_text(content)
    with pytest.raises(PipelineError, match=r"differences\.csv: not the compare stage's"):
        read_comparisons(path)


def test_every_figure_that_is_compared_is_named_as_compare_names_it():
    named = {chart.compared for chart in CURVES if chart.compared}
    assert named == {VALIDATION} | {each.label for each in task_figures(TASKS) if each.has_curve}


def test_a_difference_is_that_of_the_means_on_held_out_text_until_compare_has_a_better_one():
    curves = points((1, 2))
    second = [
        point._replace(value=point.value + 0.5) if point.condition == CONDITIONS[1] else point
        for point in curves["bits_per_byte"]
    ]
    curves["bits_per_byte"] = second
    compared = {(10, VALIDATION, CONDITIONS[1]): Compared(0.4, 0.3, 0.6, True)}
    found = paired_differences([CHARTS["bits_per_byte"]], curves, CONDITIONS, compared)
    assert [(each.step, each.difference, each.low, each.differs) for each in found] == [
        (5, pytest.approx(0.5), None, None),
        (10, 0.4, 0.3, True),
    ]
    assert {each.condition for each in found} == {CONDITIONS[1]}
    last = paired_csv(found).decode().splitlines()[-1]
    assert last == (
        'bits_per_byte,"Validation, natural text",bits per byte,mul_tokens,10,200,600,0.4,0.3,0.6,'
        "yes"
    )


def test_one_condition_and_charts_without_comparison_have_no_differences():
    assert paired_differences(CURVES, points(), CONDITIONS[:1], {}) == []
    assert paired_differences([CHARTS["loss"]], points(), CONDITIONS, {}) == []


def drawn(differences) -> list[tuple]:
    """Return the lines of a panel of differences: places, markers and what fills them."""
    axis = Figure().subplots()
    draw_differences(axis, CHARTS["hellaswag_acc_norm"], "tokens", differences, CONDITIONS)
    return [
        (*map(tuple, line.get_data()), line.get_marker(), line.get_markerfacecolor())
        for line in axis.lines
    ]


@pytest.mark.parametrize("change", [{"low": 0.1}, {"difference": 0.3}, {"differs": False}])
def test_a_difference_its_interval_and_whether_it_differs_are_drawn(change):
    chart = CHARTS["hellaswag_acc_norm"]
    compared = {
        (step, chart.compared, CONDITIONS[1]): Compared(0.4, 0.2, 0.6, True) for step in (5, 10)
    }
    found = paired_differences([chart], points(), CONDITIONS, compared)
    whole = drawn(found)
    assert whole[0][1] == (0, 0), "the line at zero"
    assert ((100, 100), (0.2, 0.6)) in [line[:2] for line in whole]
    assert drawn([found[0]._replace(**change), *found[1:]]) != whole
