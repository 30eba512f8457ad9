"""One entry of the table of charts is the PNG's, the report's and what `dvc plots` draws."""

import csv
import io
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image
from report_sample import write_rows
from repository import REPOSITORY

from model.curves import all_figures
from model.curves.all_figures import draw_curves
from model.curves.charts import CHARTS, CURVES, TASK_CHARTS, Chart
from model.curves.points import Point, chart_csv
from model.report import figures
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


def test_each_chart_is_drawn_once_against_each_of_its_axes():
    settings = drawn(dvc_plots.declared())
    pairs = [(file, each["x"]) for file, each in settings]
    assert pairs == [(chart.file, x) for chart in CHARTS.values() for x in chart.x]
    for file, each in settings:
        chart = CHARTS[Path(file).stem]
        assert each["title"].startswith(chart.title)
        assert each["template"] == chart.name


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
    text = dvc_plots.templates()[dvc_plots.TEMPLATES / f"{chart.name}.json"].decode()
    columns = set(chart_csv(chart, []).decode().strip().split(","))
    made = set(re.findall(r'"as": "([^"]+)"', text)) | {"rev", "<DVC_METRIC_X>"}
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
    curves = tuple(CHARTS[chart.name] for chart in CURVES)
    monkeypatch.setattr(figures, "CURVES", curves)
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
    for name, chart in CHARTS.items():
        text = chart_csv(chart, points(chart) if name == renamed.name else []).decode()
        header, *rows = csv.reader(io.StringIO(text))
        write_rows(tmp_path / chart.file, header, rows)
    [figure] = figures.curve_figures(tmp_path)
    assert figure.title == "Another title"
    assert "another unit" in figure.label
    assert "Dashed: OpenAI's gpt2." in figure.caption
    assert figure.by["tokens"]["encoding"]["y"]["title"] == "another unit"


def test_an_edit_of_an_entry_is_in_the_png(renamed, tmp_path, monkeypatch):
    curves = {chart.name: points(chart) for chart in CURVES}
    titles = []
    draw = all_figures.draw_chart

    def kept(axis, chart, *arguments):
        draw(axis, chart, *arguments)
        titles.append((chart.title, axis.get_ylabel()))

    monkeypatch.setattr(all_figures, "draw_chart", kept)
    draw_curves(tmp_path / "a.png", curves, CONDITIONS, CONDITIONS, "Title")
    assert ("Another title", "another unit") in titles


@pytest.mark.parametrize(("tasks", "rows"), [(1, 2), (3, 2), (4, 3)])
def test_the_png_has_a_row_for_each_three_charts(tasks, rows, tmp_path, monkeypatch):
    names = [chart.name for chart in TASK_CHARTS] + ["continuation_acc_norm"]
    panels = [(name, "tokens") for name in ("loss", "bits_per_byte", "gradient_norm")]
    panels += [(name, "tokens") for name in names[:tasks]]
    monkeypatch.setattr(all_figures, "_LEARNING", all_figures._rows(panels))
    curves = {chart.name: points(chart) for chart in CURVES}
    draw_curves(tmp_path / "a.png", curves, CONDITIONS, CONDITIONS, "Title")
    with Image.open(tmp_path / "a.png") as image:
        assert image.height == pytest.approx((0.6 + 3 * rows) * 110, abs=1)
