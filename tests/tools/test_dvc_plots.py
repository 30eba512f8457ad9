"""One entry of the table of charts is the PNG's, the report's and what `dvc plots` draws."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
import vl_convert
import yaml
from demo_charts import CHARTS, CURVES, TASK_CHARTS
from PIL import Image
from report_sample import write_rows
from repository import REPOSITORY

from model.curves import all_figures
from model.curves.all_figures import draw_curves
from model.curves.charts import Chart
from model.curves.paired import paired_csv
from model.curves.points import Point, chart_csv
from model.report import figures
from model.report.bundle import VEGA_LITE
from model.report.vega import template
from tools.generated import dvc_plots

STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
CONDITIONS = ["baseline", "mul_tokens"]


def drawn(text: str) -> list[tuple[str, dict]]:
    """Return what plots/dvc.yaml draws: each file with its settings."""
    found = []
    for entry in yaml.safe_load(text)["plots"]:
        if isinstance(entry, dict):
            [(name, settings)] = entry.items()
            file = next(iter(settings["y"])) if isinstance(settings["y"], dict) else name
            found.append((file, settings))
    return found


def test_what_dvc_plots_draws_is_the_tables():
    assert (REPOSITORY / dvc_plots.DECLARED).read_text() == dvc_plots.declared()


def test_each_chart_is_drawn_once_and_the_reader_chooses_its_axis():
    settings = drawn(dvc_plots.declared())
    pairs = [(file, each["x"]) for file, each in settings]
    assert pairs == [(chart.file, chart.x[0]) for chart in CHARTS.values()]
    for file, each in settings:
        chart = CHARTS[Path(file).stem]
        assert each["title"].startswith(chart.title)
        assert each["template"] == chart.name


def choice(spec: dict) -> tuple[list[str], str, list[str]]:
    """Return a template's choice of axes, its default, and the columns that are drawn on x."""
    [param] = spec["params"]
    places = re.findall(r'"x": {"field": "(\w+)"', json.dumps(spec))
    made = [each["as"] for each in spec["transform"] if each.get("calculate") == "datum[against]"]
    return param["bind"]["options"], param["value"], [place for place in places if place in made]


@pytest.mark.parametrize("x", ["tokens", "step", "original_bytes"])
def test_the_chosen_axis_is_what_is_drawn(x):
    spec = template(CHARTS["loss"], 2)
    options, default, places = choice(spec)
    assert options == list(CHARTS["loss"].x)
    assert default == "<DVC_METRIC_X>"
    assert places == ["progress"]
    rows = chart_csv(CHARTS["loss"], points(CHARTS["loss"])).decode()
    pictures = {}
    for chosen in ("tokens", x):
        spec["params"][0]["value"] = chosen
        whole = {**spec, "width": 300, "height": 200, "title": "t"}
        whole["data"] = {"values": list(csv.DictReader(io.StringIO(rows)))}
        pictures[chosen] = vl_convert.vegalite_to_svg(json.dumps(whole), vl_version=VEGA_LITE)
    assert f">{CHARTS['loss'].x_label(x)}</text>" in pictures[x]
    assert (pictures["tokens"] == pictures[x]) == (x == "tokens")


def test_losses_are_drawn_against_steps_tokens_and_bytes():
    for name in ("loss", "bits_per_byte"):
        assert set(CHARTS[name].x) == {"step", "tokens", "original_bytes"}
        assert CHARTS[name].is_fitted
    for name in ("gradient_norm", "learning_rate", "sft_loss"):
        assert CHARTS[name].x == ("step",)
    assert all(chart.x == ("tokens",) for chart in (*TASK_CHARTS, CHARTS["parity"]))


def test_every_csv_and_picture_of_the_stages_is_drawn():
    outs = {
        path
        for stage in ("compare", "curves")
        for entry in STAGES[stage]["outs"]
        for path in entry
        if path.startswith("plots/") and not path.endswith((".json", ".md"))
    }
    entries = yaml.safe_load(dvc_plots.declared())["plots"]
    files = {chart.file for chart in CHARTS.values()}
    curves = {file for file in files if file.startswith("curves/")}
    others = {f"plots/{file}" for file in files - curves}
    assert outs == others | {"plots/curves", "plots/figures"}
    assert "figures" in entries
    assert not any("plots" in stage for stage in STAGES.values())


@pytest.mark.parametrize("chart", CURVES, ids=lambda chart: chart.name)
def test_a_template_reads_columns_that_there_are(chart):
    text = json.dumps(template(chart, 2))
    columns = set(chart_csv(chart, []).decode().strip().split(","))
    made = set(re.findall(r'"as": "([^"]+)"', text)) | {"rev", "<DVC_METRIC_X>"}
    made |= {"against", "progress"}
    fields = set(re.findall(r'"field": "([^"]+)"', text)) | set(re.findall(r"datum\.(\w+)", text))
    assert fields - made <= columns
    assert "<STEP>" not in text
    assert "<GREY>" not in text


@pytest.fixture
def renamed(monkeypatch) -> Chart:
    """The table with another title and unit of one chart, which has a line at 0.4 too."""
    changed = CHARTS["continuation_acc_norm"]._replace(
        title="Another title", y_label="another unit", reference=0.4
    )
    monkeypatch.setitem(CHARTS, changed.name, changed)
    monkeypatch.setattr(dvc_plots, "charts", lambda: [*CHARTS.values()])
    return changed


def points(chart: Chart) -> list[Point]:
    return [
        Point(condition, 1, "", step, 20 * step, 60 * step, 0.3, 0.2, 0.4)
        for condition in CONDITIONS
        for step in (5, 10)
    ]


def test_an_edit_of_an_entry_is_in_what_dvc_plots_draws(renamed):
    [settings] = [each for file, each in drawn(dvc_plots.declared()) if renamed.name in file]
    assert settings["title"] == "Another title (dotted: chance, dashed: OpenAI gpt2)"
    assert settings["y_label"] == "another unit, 95 % interval"
    path = dvc_plots.TEMPLATES / f"{renamed.name}.json"
    assert b"datum.gpt2)" in dvc_plots.templates()[path]


def test_an_edit_of_an_entry_is_in_the_report(renamed, tmp_path):
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves/paired.csv").write_bytes(paired_csv([]))
    for name, chart in CHARTS.items():
        if chart.shape != "curve":
            continue
        text = chart_csv(chart, points(chart) if name == renamed.name else []).decode()
        header, *rows = csv.reader(io.StringIO(text))
        write_rows(tmp_path / chart.file, header, rows)
    [figure] = figures.curve_figures(tmp_path, [CHARTS[chart.name] for chart in CURVES])
    assert figure.title == "Another title"
    assert "another unit" in figure.label
    assert "Dashed: OpenAI's gpt2 (124M)." in figure.caption
    assert figure.by["tokens"]["encoding"]["y"]["title"] == "another unit"


def test_an_edit_of_an_entry_is_in_the_png(renamed, tmp_path, monkeypatch):
    curves = {chart.name: points(chart) for chart in CURVES}
    scores = [CHARTS[chart.name] for chart in TASK_CHARTS]
    titles = []
    draw = all_figures.draw_chart

    def kept(axis, chart, *arguments):
        draw(axis, chart, *arguments)
        titles.append((chart.title, axis.get_ylabel()))

    monkeypatch.setattr(all_figures, "draw_chart", kept)
    draw_curves(tmp_path / "a.png", curves, scores, CONDITIONS, CONDITIONS, "Title")
    assert ("Another title", "another unit") in titles


@pytest.mark.parametrize(("tasks", "rows"), [(1, 1), (3, 2), (6, 3)])
def test_the_png_has_a_row_for_each_three_charts(tasks, rows, tmp_path):
    curves = {chart.name: points(chart) for chart in CURVES}
    draw_curves(tmp_path / "a.png", curves, TASK_CHARTS[:tasks], CONDITIONS, CONDITIONS, "Title")
    with Image.open(tmp_path / "a.png") as image:
        assert image.height == pytest.approx((0.6 + 2.9 * rows) * 110, abs=1)
