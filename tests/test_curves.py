import json
import math
from pathlib import Path

import pytest
from PIL import Image

from model.arithmetic_table import arithmetic_table
from model.curves import CHARTS, Point, chart_csv, evaluation_points, loss_points, refuse_same_weights, results_table
from model.data_table import data_table
from model.errors import PipelineError
from model.figures import draw_curves
from model.files import json_bytes, write_checksums
from stages.pretrain import csv_bytes

CONDITIONS = ["baseline", "mul_tokens"]


def points(seeds=(1, 2)) -> dict[str, list[Point]]:
    return {
        chart.name: [
            Point(condition, seed, tokens, 0.3 + seed / 100, *((0.2, 0.4) if chart.is_accuracy else ()))
            for condition in CONDITIONS
            for seed in seeds
            for tokens in (100, 200)
        ]
        for chart in CHARTS
    }


def test_figures_are_the_same_bytes_twice_and_not_empty(tmp_path):
    for name, shown in (("a", CONDITIONS), ("b", CONDITIONS), ("c", CONDITIONS[:1])):
        draw_curves(tmp_path / f"{name}.png", points(), CONDITIONS, shown, "Title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(10**6)) > 50


def test_chart_data_carry_conditions_intervals_and_reference_lines():
    hellaswag = next(chart for chart in CHARTS if chart.name == "hellaswag_acc_norm")
    lines = chart_csv(hellaswag, points()["hellaswag_acc_norm"]).decode().splitlines()
    assert lines[0] == "condition,seed,tokens,value,low,high,chance,gpt2"
    assert lines[1] == "baseline,1,100,0.31,0.2,0.4,0.25,0.2955"
    assert len(lines) == 9
    loss = next(chart for chart in CHARTS if chart.name == "val_loss")
    assert chart_csv(loss, points()["val_loss"]).decode().splitlines()[1] == "baseline,1,100,0.31,,,,"


def test_results_have_a_row_for_each_step_and_seed_with_intervals():
    hellaswag = next(chart for chart in CHARTS if chart.name == "hellaswag_acc_norm")
    table = results_table(hellaswag, points()["hellaswag_acc_norm"], CONDITIONS, {5: 100, 10: 200})
    assert "| 10 | 200 | 2 | 0.3200 [0.200, 0.400] | 0.3200 [0.200, 0.400] |" in table
    assert len(table.strip().splitlines()) == 2 + 2 + 4


def test_curves_read_what_pretrain_writes(tmp_path):
    from model.training import TrainingPoint, ValidationPoint

    (tmp_path / "training.csv").write_bytes(csv_bytes([TrainingPoint(2, 20, 60, 1e-3, 0.5, 1 / 3)]))
    (tmp_path / "validation.csv").write_bytes(csv_bytes([ValidationPoint(2, 20, 60, math.pi, 0.1, None)]))
    write_checksums(tmp_path)
    curves, tokens = loss_points(tmp_path, "baseline", 1)
    assert curves["train_loss"] == [Point("baseline", 1, 20, 1 / 3)]
    assert curves["val_loss"] == [Point("baseline", 1, 20, math.pi)]
    assert tokens == {2: 20}


@pytest.mark.parametrize("content", ["step,tokens\n1,2\n", "step,tokens,train_loss\n1,2,x\n", None])
def test_a_damaged_curve_is_named(tmp_path, content):
    if content:
        (tmp_path / "training.csv").write_text(content)
    write_checksums(tmp_path)
    with pytest.raises(PipelineError, match=r"training\.csv: (not a curve of the pretrain stage|missing)"):
        loss_points(tmp_path, "baseline", 1)


def test_two_exports_of_the_same_weights_are_refused(tmp_path):
    paths = [tmp_path / f"{name}.json" for name in ("one", "two", "three")]
    for path, weights in zip(paths, ("a", "b", "a"), strict=True):
        path.write_text(json.dumps({"weights_sha256": weights}))
    refuse_same_weights(paths[:2])
    with pytest.raises(PipelineError, match=r"one\.json and .*three\.json: the same weights exported twice"):
        refuse_same_weights(paths)
    paths[1].write_text("{}")
    with pytest.raises(PipelineError, match=r"two\.json: not the export stage's"):
        refuse_same_weights(paths)


def tokenize_json(directory: Path, condition: str, **changes) -> Path:
    split = {
        "documents": 5, "documents_sha256": "ab", "mul_fact_rate": 0.0, "mul_fact_tokens": 0, "original_bytes": 4000,
        "tokens": 1000, "tokens_per_byte": 0.25,
    }  # fmt: skip
    path = directory / f"{condition}.json"
    path.write_bytes(json_bytes({"train": {**split, **changes}, "val": {**split, **changes}}))
    return path


def test_what_conditions_are_trained_on_is_a_table(tmp_path):
    paths = {
        "baseline": tokenize_json(tmp_path, "baseline"),
        "mul_tokens": tokenize_json(
            tmp_path, "mul_tokens", tokens=900, tokens_per_byte=0.225, mul_fact_tokens=9, mul_fact_rate=0.01
        ),
    }
    lines = data_table(paths).splitlines()
    assert "| tokens | 1,000 | 900 |" in lines
    assert "| multiplication fact rate | 0.00000 | 0.01000 |" in lines


def test_conditions_that_were_trained_on_other_documents_are_refused(tmp_path):
    paths = {"a": tokenize_json(tmp_path, "a"), "b": tokenize_json(tmp_path, "b")}
    data_table(paths)
    for split in ("train", "val"):
        tokenize_json(tmp_path, "b")
        summary = json.loads(paths["b"].read_bytes())
        summary[split]["documents_sha256"] = "cd"
        paths["b"].write_bytes(json_bytes(summary))
        with pytest.raises(PipelineError, match=rf"a\.json and .*b\.json: not of the same {split} documents"):
            data_table(paths)


@pytest.mark.parametrize("content", [{}, {"train": {}}, {"train": 3}])
def test_a_damaged_summary_of_tokens_is_named(tmp_path, content):
    path = tmp_path / "tokenize.json"
    path.write_bytes(json_bytes(content))
    with pytest.raises(PipelineError, match=r"tokenize\.json: not the tokenize stage's"):
        data_table({"baseline": path})


def test_a_damaged_evaluation_is_named(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps({"hellaswag": {}}))
    with pytest.raises(PipelineError, match=r"evaluation\.json: not the evaluate stage's"):
        evaluation_points(path, "baseline", 1, 100)


def probes_json(path, share: float) -> None:
    rate = {"correct": 1, "interval_95": [share / 2, share * 2], "rate": share, "total": 2203}
    groups = {group: {"text": rate, "fact_token": rate} for group in ("held_out_form", "held_out_pair", "seen")}
    path.write_bytes(json_bytes({"plain": groups, "injected": groups}))


def test_the_arithmetic_table_has_a_row_for_each_way_of_asking_and_answering(tmp_path):
    paths = {(condition, seed): tmp_path / f"{condition}_{seed}.json" for condition in CONDITIONS for seed in (1, 2)}
    for (condition, seed), path in paths.items():
        probes_json(path, seed / 10 if condition == "baseline" else seed / 20)
    title, _, header, _, *rows = arithmetic_table(paths, CONDITIONS, [1, 2]).splitlines()
    assert title == "**Arithmetic, final export** (rate of right products)"
    assert header == "| prompt | asked | answer | n | seed | baseline | mul_tokens |"
    assert len(rows) == 2 * 3 * 2 * 2
    assert rows[0] == "| plain | seen | text | 2,203 | 1 | 0.100 [0.050, 0.200] | 0.050 [0.025, 0.100] |"
    assert rows[3] == "| plain | seen | fact token | 2,203 | 2 | 0.200 [0.100, 0.400] | 0.100 [0.050, 0.200] |"
    assert rows[-1].startswith("| injected | held out form | fact token | 2,203 | 2 | ")


@pytest.mark.parametrize("content", ["{}", '{"plain": {"seen": {"text": {}}}}', '{"plain": 1}', "[]", None])
def test_damaged_probes_are_named(tmp_path, content):
    paths = {(condition, 1): tmp_path / f"{condition}.json" for condition in CONDITIONS}
    for path in paths.values():
        probes_json(path, 0.1)
    assert arithmetic_table(paths, CONDITIONS, [1])
    for (condition, _), path in paths.items():
        whole = path.read_text()
        path.unlink()
        if content is not None:
            path.write_text(content)
        with pytest.raises(PipelineError, match=rf"^[^\n]*{condition}\.json: [^\n]*$"):
            arithmetic_table(paths, CONDITIONS, [1])
        path.write_text(whole)


def test_runs_that_were_asked_otherwise_are_refused(tmp_path):
    paths = {(condition, 1): tmp_path / f"{condition}.json" for condition in CONDITIONS}
    for path in paths.values():
        probes_json(path, 0.1)
    path = paths["mul_tokens", 1]
    path.write_bytes(json_bytes({"plain": json.loads(path.read_text())["plain"]}))
    with pytest.raises(PipelineError, match=r"mul_tokens\.json: asks otherwise than the first run; run dvc repro probes"):
        arithmetic_table(paths, CONDITIONS, [1])
