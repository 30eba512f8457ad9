import csv
import itertools
import json
import math
import shutil
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import pytest
import yaml
from chart_points import CONDITIONS, points, training_picture
from conditions import named
from demo_charts import CHARTS, TASK_CHARTS, TASKS
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from repository import REPOSITORY

from common.errors import PipelineError
from common.files import json_bytes, write_checksums
from model.curves import all_figures, charts
from model.curves.all_figures import draw_curves, draw_training
from model.curves.arithmetic_table import arithmetic_table
from model.curves.data_table import data_table
from model.curves.paired import Difference
from model.curves.parity import refuse_same_weights
from model.curves.points import (
    Point,
    Progress,
    chart_csv,
    evaluation_points,
    loss_points,
    results_table,
)
from stages.curves import main
from stages.pretrain import csv_bytes

pytestmark = pytest.mark.slow("draws pictures", minutes=1.3)

TRAINING = "step,tokens,original_bytes,learning_rate,gradient_norm,train_loss,train_bits_per_byte\n"
VALIDATION = "step,tokens,original_bytes,val_loss,val_bits_per_byte,val_drill_bits_per_byte\n"
WITHOUT_RATES = json.dumps(
    {problems: {"facts": 0, "strict": {"total": 1319}} for problems in ("generated", "gsm8k")}
)


def test_figures_are_the_same_bytes_twice_and_not_empty(tmp_path):
    for name, shown in (("a", CONDITIONS), ("b", CONDITIONS), ("c", CONDITIONS[:1])):
        draw_curves(tmp_path / f"{name}.png", points(), TASK_CHARTS, CONDITIONS, shown, "Title")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    assert training_picture(tmp_path / "d.png", points()) == training_picture(
        tmp_path / "e.png", points()
    )
    for name in ("a", "d"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width > 1000
            assert len(image.convert("RGB").getcolors(10**6)) > 50


def test_the_picture_of_training_shows_every_curve(tmp_path):
    """Whatever a point's value or place, another one is another picture; a condition's last point
    is in sight.
    """
    pictures = {training_picture(tmp_path / "whole.png", points((1,)))}
    moves = [
        (name, {"value": 0.05})
        for name in ("loss", "bits_per_byte", "gradient_norm", "learning_rate")
    ]
    moves += [
        ("bits_per_byte", {field: getattr(points()["loss"][1], field) * 2})
        for field in ("tokens", "original_bytes")
    ]
    count = 1
    for name, change in moves:
        for split in {point.split for point in points()[name]}:
            curves = points((1,))
            at = max(number for number, point in enumerate(curves[name]) if point.split == split)
            curves[name][at] = curves[name][at]._replace(**change)
            pictures.add(training_picture(tmp_path / "moved.png", curves))
            count += 1
    assert count == 1 + 6 + 4
    assert len(pictures) == count - 1, "bytes out of proportion, of either split, have no axis"


def drawn_axes(draw, curves) -> list:
    """Return the panels of the picture that `draw` makes of `curves`, laid out."""
    found = []

    @contextmanager
    def kept(file, width, height):
        with mpl.rc_context():
            figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
            FigureCanvasAgg(figure)
            yield figure
            figure.draw_without_rendering()
            found.extend(figure.get_axes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(all_figures, "picture", kept)
        draw(curves)
    return found


def training_axes(curves) -> list:
    return drawn_axes(lambda found: draw_training(Path(), found, CONDITIONS, "Title"), curves)


def scales(axis) -> list[str]:
    return [axis.get_xlabel(), *(each.get_xlabel() for each in axis.child_axes)]


def test_each_curve_of_training_is_drawn_once_with_an_axis_for_steps_tokens_and_bytes():
    axes = training_axes(points((1,)))
    titles = [axis.get_title(loc="left") for axis in axes]
    assert len(titles) == len(set(titles)) == len(charts.TRAINING)
    every = ["training tokens", "training steps", "bytes of original text read"]
    assert [scales(axis) for axis in axes[:2]] == [every] * 2
    top, below = axes[0].child_axes
    low, high = axes[0].get_xlim()
    assert top.get_xlim() == pytest.approx((low / 20, high / 20)), "20 tokens a step"
    assert below.get_xlim() == pytest.approx((3 * low, 3 * high)), "3 bytes a token"


def of_second(curves, **change) -> dict:
    """Return the curves with the second condition's places multiplied."""
    return {
        name: [
            point._replace(**{field: getattr(point, field) * by for field, by in change.items()})
            if point.condition == CONDITIONS[1]
            else point
            for point in curve
        ]
        for name, curve in curves.items()
    }


def test_an_axis_that_does_not_hold_for_all_conditions_says_so_or_is_left_out():
    curves = points((1,))
    more = scales(training_axes(of_second(curves, original_bytes=1.006))[1])
    assert more[2] == "bytes of original text read (baseline; mul_tokens +0.6 %)"
    assert len(scales(training_axes(of_second(curves, original_bytes=1.2))[1])) == 2
    assert scales(training_axes(of_second(curves, step=2))[1])[1] == "bytes of original text read"


def overlapping(axes) -> int:
    """Return how many pairs of panels, with their titles and labels, overlap."""
    renderer = axes[0].get_figure(root=True).canvas.get_renderer()
    boxes = [axis.get_tightbbox(renderer).padded(-2) for axis in axes]
    return sum(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


FIVE = ["baseline", "mul_tokens", "fast", "wide", "muon"]


@pytest.mark.parametrize("steps", [(10,), (5, 10, 20, 40)], ids=["one checkpoint", "four"])
@pytest.mark.parametrize("conditions", [FIVE[:2], FIVE], ids=len)
def test_no_two_panels_with_their_words_overlap_nor_do_two_bars(conditions, steps):
    chart = CHARTS["hellaswag_acc_norm"]
    curves = {
        name: [
            Point(condition, seed, "", step, 20_000 * step, 60_000 * step, 0.3, 0.2, 0.4)
            for condition in conditions
            for seed in (1, 2, 3)
            for step in steps
        ]
        for name in ("bits_per_byte", chart.name)
    }
    differences = [
        Difference(name, "f", "u", each, step, 20_000 * step, 60_000 * step, 0, -0.01, 0.01, False)
        for name in curves
        for each in conditions[1:]
        for step in steps
    ]

    def draw(found):
        draw_curves(Path(), found, [chart], conditions, conditions, "Title", differences)

    axes = drawn_axes(draw, curves)
    assert overlapping(axes) == 0
    for axis, shown in ((axes[2], conditions), (axes[3], conditions[1:])):
        bars = [line for line in axis.lines if line.get_marker() == "_"]
        lefts = sorted(line.get_transform().transform(line.get_xydata())[0, 0] for line in bars)
        assert len(lefts) == len(shown) * len(steps)
        assert min((b - a for a, b in itertools.pairwise(lefts)), default=9) > 2, "pixels"
        low, high = axis.get_window_extent().intervalx
        assert low < lefts[0]
        assert lefts[-1] < high
    axes[2].set_title("a title so long that it reaches the next panel " * 3, loc="right")
    axes[2].get_figure(root=True).draw_without_rendering()
    assert overlapping(axes) > 0, "it is seen"


def test_one_row_of_training_can_be_drawn(tmp_path):
    """As of a run shorter than log_every: an axis has no length then."""
    training_picture(
        tmp_path / "one.png",
        {name: [p for p in curve if p.step == 10] for name, curve in points((1,)).items()},
    )


def test_chart_data_carry_conditions_intervals_and_reference_lines():
    lines = (
        chart_csv(CHARTS["hellaswag_acc_norm"], points()["hellaswag_acc_norm"])
        .decode()
        .splitlines()
    )
    assert (
        lines[0]
        == "condition,seed,split,step,tokens,original_bytes,value,low,high,chance,gpt2,tolerance"
    )
    assert lines[1] == "baseline,1,,5,100,300,0.305,0.2,0.4,0.25,0.2955,"
    assert len(lines) == 9
    lines = chart_csv(CHARTS["loss"], points()["loss"]).decode().splitlines()
    assert lines[1] == "baseline,1,train,5,100,300,0.205,,,,,"
    assert lines[3] == "baseline,1,val,5,100,300,0.305,,,,,"
    assert len(lines) == 17


def test_results_have_a_row_for_each_step_and_seed_with_intervals():
    table = results_table(
        CHARTS["hellaswag_acc_norm"], points()["hellaswag_acc_norm"], CONDITIONS, {5: 100, 10: 200}
    )
    assert table.columns == ["Step", "Tokens", "Seed", "Baseline", "Mul_tokens"]
    assert "| 10 | 200 | 2 | 0.3100 [0.200, 0.400] | 0.3100 [0.200, 0.400] |" in table.markdown()
    assert len(table.rows) == 6, "two steps of two seeds, and what each step's seeds spread"
    rate = {"rate": 0.31, "interval_95": [0.2, 0.4]}
    assert table.json()["values"][-2] == [10, 200, 2, rate, rate]
    assert "| 10 | 200 | mean ± sd | 0.3050 ± 0.0071 | 0.3050 ± 0.0071 |" in table.markdown()
    assert table.json()["values"][-1][3] == pytest.approx([0.305, 0.005 * 2**0.5])


def test_one_seed_has_the_columns_of_the_original_report():
    curve = [point for point in points()["bits_per_byte"] if point.seed == 1]
    table = results_table(CHARTS["bits_per_byte"], curve, CONDITIONS, {5: 100})
    assert table.markdown().splitlines()[2:] == [
        "| Step | Tokens | Baseline | Mul_tokens |",
        "|---:|---:|---:|---:|",
        "| 5 | 100 | 0.3050 | 0.3050 |",
    ]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_results_are_of_held_out_text_and_not_of_training(reverse):
    curve = sorted(points()["bits_per_byte"], key=lambda point: point.split, reverse=reverse)
    lines = (
        results_table(CHARTS["bits_per_byte"], curve, CONDITIONS, {5: 100, 10: 200})
        .markdown()
        .splitlines()
    )
    assert lines[0] == "**Validation, natural text** (bits per byte)"
    assert lines[4] == "| 5 | 100 | 1 | 0.3050 | 0.3050 |"
    assert lines[-2] == "| 10 | 200 | 2 | 0.3100 | 0.3100 |"


def test_curves_read_what_pretrain_writes(tmp_path):
    from model.pretraining.loop import TrainingPoint, ValidationPoint

    rows = {
        "step": 2,
        "tokens": 20,
        "original_bytes": 60,
        "learning_rate": 1e-3,
        "gradient_norm": 0.5,
        "train_loss": 1 / 3,
    }
    (tmp_path / "training.csv").write_bytes(
        csv_bytes([TrainingPoint(**rows, train_bits_per_byte=0.7)])
    )
    (tmp_path / "validation.csv").write_bytes(
        csv_bytes([ValidationPoint(2, 20, 60, math.pi, 0.1, None)])
    )
    write_checksums(tmp_path)
    assert_read_as_written(tmp_path)


def assert_read_as_written(directory: Path) -> None:
    curves, progress = loss_points(directory, "baseline", 1)
    place = Progress(2, 20, 60)
    train, val = (("baseline", 1, split, *place) for split in ("train", "val"))
    assert curves == {
        "loss": [Point(*train, 1 / 3), Point(*val, math.pi)],
        "bits_per_byte": [Point(*train, 0.7), Point(*val, 0.1)],
        "gradient_norm": [Point(*train, 0.5)],
        "learning_rate": [Point(*train, 1e-3)],
    }
    assert progress == {2: place}


def write_losses(directory: Path, training: str | None, validation: str | None) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in (("training", training), ("validation", validation)):
        if text is not None:
            (directory / f"{name}.csv").write_text(text)
    write_checksums(directory)
    return directory


def test_each_column_goes_to_its_chart(tmp_path):
    row = f"2,20,60,0.001,0.5,{1 / 3},0.7\n"
    assert_read_as_written(
        write_losses(tmp_path, TRAINING + row, VALIDATION + f"2,20,60,{math.pi},0.1,\n")
    )


@pytest.mark.parametrize(
    "content",
    ["step,tokens\n1,2\n", TRAINING + "1,2,3,4,5,x,7\n", TRAINING + "1,2,3,4\n", TRAINING, None],
)
def test_a_damaged_curve_is_named(tmp_path, content):
    row = "1,2,6,0.1,0.2,3.0,0.9\n"
    loss_points(
        write_losses(tmp_path / "whole", TRAINING + row, VALIDATION + "1,2,6,3.0,0.9,\n"),
        "baseline",
        1,
    )
    with pytest.raises(
        PipelineError,
        match=r"^[^\n]*training\.csv: (not a curve of the pretrain stage|missing)[^\n]*$",
    ):
        loss_points(
            write_losses(tmp_path / "damaged", content, VALIDATION + "1,2,6,3.0,0.9,\n"),
            "baseline",
            1,
        )


@pytest.mark.parametrize("column", TRAINING.strip().split(","))
def test_a_curve_without_one_of_its_columns_is_refused_and_the_column_named(tmp_path, column):
    row = dict(
        zip(TRAINING.strip().split(","), ["1", "2", "6", "0.1", "0.2", "3.0", "0.9"], strict=True)
    )
    del row[column]
    text = ",".join(row) + "\n" + ",".join(row.values()) + "\n"
    write_losses(tmp_path, text, VALIDATION + "1,2,6,3.0,0.9,\n")
    with pytest.raises(
        PipelineError, match=rf"training\.csv: not a curve .*'{column}'.*; run dvc repro pretrain$"
    ):
        loss_points(tmp_path, "baseline", 1)


def test_two_exports_of_the_same_weights_are_refused(tmp_path):
    paths = [tmp_path / f"{name}.json" for name in ("one", "two", "three")]
    for path, weights in zip(paths, ("a", "b", "a"), strict=True):
        path.write_text(json.dumps({"weights_sha256": weights}))
    refuse_same_weights(paths[:2])
    with pytest.raises(
        PipelineError, match=r"one\.json and .*three\.json: the same weights exported twice"
    ):
        refuse_same_weights(paths)
    paths[1].write_text("{}")
    with pytest.raises(PipelineError, match=r"two\.json: not the export stage's"):
        refuse_same_weights(paths)


def tokenize_json(directory: Path, condition: str, **changes) -> Path:
    split = {
        "documents": 5,
        "documents_sha256": "ab",
        "mul_fact_rate": 0.0,
        "mul_fact_tokens": 0,
        "original_bytes": 4000,
        "tokens": 1000,
        "tokens_per_byte": 0.25,
    }
    path = directory / f"{condition}.json"
    expressions = {"dot": {"changed": 9, "found": 10}, "times": {"changed": 0, "found": 30}}
    path.write_bytes(
        json_bytes(
            {"expressions": expressions, "train": {**split, **changes}, "val": {**split, **changes}}
        )
    )
    return path


def test_what_conditions_are_trained_on_is_a_table(tmp_path):
    paths = {
        "baseline": tokenize_json(tmp_path, "baseline"),
        "mul_tokens": tokenize_json(
            tmp_path,
            "mul_tokens",
            tokens=900,
            tokens_per_byte=0.225,
            mul_fact_tokens=9,
            mul_fact_rate=0.01,
        ),
    }
    lines = data_table(paths).markdown().splitlines()
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
        with pytest.raises(
            PipelineError, match=rf"a\.json and .*b\.json: not of the same {split} documents"
        ):
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
        evaluation_points(path, TASKS, "baseline", 1, Progress(5, 100, 300))


def probes_json(path, share: float) -> None:
    rate = {"correct": 1, "interval_95": [share / 2, share * 2], "rate": share, "total": 2203}
    groups = {
        group: {"text": rate, "fact_token": rate}
        for group in ("held_out_form", "held_out_pair", "seen")
    }
    path.write_bytes(json_bytes({"plain": groups, "injected": groups}))


def test_the_arithmetic_table_has_a_row_for_each_way_of_asking_and_answering(tmp_path):
    paths = {
        (condition, seed): tmp_path / f"{condition}_{seed}.json"
        for condition in CONDITIONS
        for seed in (1, 2)
    }
    for (condition, seed), path in paths.items():
        probes_json(path, seed / 10 if condition == "baseline" else seed / 20)
    title, _, header, _, *rows = (
        arithmetic_table("final export", paths, CONDITIONS, [1, 2]).markdown().splitlines()
    )
    assert title == "**Arithmetic, final export** (rate of right products)"
    assert header == "| Prompt | Asked | Answer | n | Seed | Baseline | Mul_tokens |"
    assert len(rows) == 2 * 3 * 2 * (2 + 1), "each seed's, and their mean"
    assert (
        rows[0]
        == "| plain | seen | text | 2,203 | 1 | 0.100 [0.050, 0.200] | 0.050 [0.025, 0.100] |"
    )
    assert (
        rows[4]
        == "| plain | seen | fact token | 2,203 | 2 | 0.200 [0.100, 0.400] | 0.100 [0.050, 0.200] |"
    )
    assert rows[2] == (
        "| plain | seen | text | 2,203 | mean ± sd | 0.1500 ± 0.0707 | 0.0750 ± 0.0354 |"
    )
    assert rows[-2].startswith("| injected | held out form | fact token | 2,203 | 2 | ")


@pytest.mark.parametrize(
    "content", ["{}", '{"plain": {"seen": {"text": {}}}}', '{"plain": 1}', "[]", None]
)
def test_damaged_probes_are_named(tmp_path, content):
    paths = {(condition, 1): tmp_path / f"{condition}.json" for condition in CONDITIONS}
    for path in paths.values():
        probes_json(path, 0.1)
    assert arithmetic_table("final export", paths, CONDITIONS, [1]).rows
    for (condition, _), path in paths.items():
        whole = path.read_text()
        path.unlink()
        if content is not None:
            path.write_text(content)
        with pytest.raises(PipelineError, match=rf"^[^\n]*{condition}\.json: [^\n]*$"):
            arithmetic_table("final export", paths, CONDITIONS, [1])
        path.write_text(whole)


def test_runs_that_were_asked_otherwise_are_refused(tmp_path):
    paths = {(condition, 1): tmp_path / f"{condition}.json" for condition in CONDITIONS}
    for path in paths.values():
        probes_json(path, 0.1)
    path = paths["mul_tokens", 1]
    path.write_bytes(json_bytes({"plain": json.loads(path.read_text())["plain"]}))
    with pytest.raises(
        PipelineError,
        match=r"mul_tokens\.json: other questions than the first run's; run dvc repro probes",
    ):
        arithmetic_table("final export", paths, CONDITIONS, [1])


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """What the curves stage reads of two tiny runs, each of three training rows, two validations
    and two checkpoints.
    """
    monkeypatch.chdir(tmp_path)
    asked = {"asked": "all", "wordings": ["reference"]}
    params = {
        "conditions": named(*CONDITIONS),
        "export": {"parity_tolerance": 1e-4},
        "seeds": [1],
        "tokenize": {"mul_facts": False},
        "model": {"width": 32},
        "pretrain": {"checkpoint_steps": [2, 4]},
        "sft": {},
        "tasks": {"hellaswag": asked, "continuation": asked},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    for number, condition in enumerate(CONDITIONS):
        places = {step: f"{step},{10 * step},{30 * step + number}" for step in (0, 1, 2, 4)}
        training = [
            f"{places[step]},0.{step},1.{step},{9 - step}.5,{3 - step / 10}\n" for step in (1, 2, 4)
        ]
        validation = [f"{places[step]},{9 - step}.25,{2.5 - step / 10},2.0\n" for step in (0, 2, 4)]
        run = f"{condition}/seed_1"
        write_losses(
            Path("losses") / run, TRAINING + "".join(training), VALIDATION + "".join(validation)
        )
        metrics = Path("metrics") / run
        for step in (2, 4):
            (metrics / f"step_{step}").mkdir(parents=True)
            parity = {
                "max_abs_logit_difference": step / 2**20,
                "weights_sha256": f"{condition}{step}",
            }
            (metrics / f"step_{step}/parity.json").write_bytes(json_bytes(parity))
            rate = {
                "acc_norm": {"rate": 0.25 + step / 100, "interval_95": [0.2, 0.3], "total": 1000},
                "chance": 0.25,
                "gold_bits_per_byte": 2.75,
            }
            evaluation = {"hellaswag": rate, "continuation": rate}
            (metrics / f"step_{step}/evaluation.json").write_bytes(json_bytes(evaluation))
        (metrics / "pretrain.json").write_bytes(json_bytes({"loss_spikes": 0}))
        (metrics / "sft.json").write_bytes(json_bytes({"facts": number, "learned_tokens": 50}))
        (metrics / "probes").mkdir()
        for models in ("exports", "sft"):
            probes_json(metrics / f"probes/{models}.json", 0.1)
        rules = ("strict", "flexible", "strict_stated", "flexible_stated")
        answers = {
            rule: {"rate": 0.1 * number, "interval_95": [0.0, 0.5], "total": 1319}
            for number, rule in enumerate(rules, 1)
        }
        ends = {"stopped": 1300, "cut": 12, "too_long": 7, "facts": 3}
        (metrics / "gsm8k.json").write_bytes(
            json_bytes(dict.fromkeys(("generated", "gsm8k"), answers | ends))
        )
        fine_tuning = Path("sft_losses") / run
        fine_tuning.mkdir(parents=True)
        (fine_tuning / "training.csv").write_text("step,train_loss\n10,2.5\n20,1.5\n")
        write_checksums(fine_tuning)
        tokenize_json(Path("metrics") / condition, "tokenize")
    Path("plots").mkdir()
    header = "model,figure,unit,condition,difference,low,high,differs\n"
    row = "step 4,HellaSwag acc_norm,accuracy,mul_tokens,0.01,-0.02,0.04,no\n"
    Path("plots/differences.csv").write_text(header + row)
    return tmp_path


def test_the_stage_writes_every_output_that_dvc_declares_of_it(tree):
    main()
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    declared = {path for entry in stages["curves"]["outs"] for path in entry}
    written = {str(path) for path in Path("plots").iterdir()}
    assert declared == written - {"plots/differences.csv"}
    pictures = {path.name for path in Path("plots/figures").iterdir()}
    assert pictures == {
        "combined.png",
        "training.png",
        "evidence.png",
        "baseline.png",
        "mul_tokens.png",
    }


def test_the_stage_writes_the_paired_differences(tree):
    main()
    with open("plots/curves/paired.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["chart"] == "hellaswag_acc_norm"]
    assert [(row["step"], row["difference"], row["low"], row["differs"]) for row in rows] == [
        ("2", "0.0", "", ""),
        ("4", "0.01", "-0.02", "no"),
    ]


def test_the_stage_gathers_each_row_of_each_run_once(tree):
    main()
    with open("plots/curves/bits_per_byte.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:7] == [
        "condition",
        "seed",
        "split",
        "step",
        "tokens",
        "original_bytes",
        "value",
    ]
    rows = [
        (
            row["condition"],
            row["split"],
            int(row["step"]),
            int(row["original_bytes"]),
            float(row["value"]),
        )
        for row in rows
    ]
    assert rows == [
        row
        for number, condition in enumerate(CONDITIONS)
        for row in (
            *((condition, "train", step, 30 * step + number, 3 - step / 10) for step in (1, 2, 4)),
            *((condition, "val", step, 30 * step + number, 2.5 - step / 10) for step in (0, 2, 4)),
        )
    ]
    hellaswag = Path("plots/curves/hellaswag_acc_norm.csv").read_text().splitlines()
    assert hellaswag[2] == "baseline,1,,4,40,120,0.29,0.2,0.3,0.25,0.2955,"
    assert hellaswag[4] == "mul_tokens,1,,4,40,121,0.29,0.2,0.3,0.25,0.2955,"
    results = Path("plots/results.md").read_text()
    assert "| 4 | 40 | 2.1000 | 2.1000 |\n" in results
    assert [line for line in results.splitlines() if line.startswith("**")] == [
        "**What the conditions differ in** (keys of params.yaml)",
        "**What the conditions are trained on** (the same documents in the same order)",
        "**Validation, natural text** (bits per byte)",
        "**HellaSwag acc_norm** (accuracy)",
        "**HellaSwag, true endings** (bits per byte)",
        "**Continuation acc_norm** (accuracy)",
        "**What pretraining learns** (brackets: 95 % intervals)",
        "**From pretraining to GSM8K** (rates with 95 % intervals, and counts)",
        "**Arithmetic, final export** (rate of right products)",
        "**Arithmetic, fine-tuned** (rate of right products)",
    ]
    assert (
        "| pretrained | HellaSwag acc_norm | 1,000 | 0.2900 [0.200, 0.300] | 0.2900 [0.200,"
        " 0.300] |\n" in results
    )
    assert "| fine-tuned | GSM8K, ended by the model |  | 1,300 | 1,300 |\n" in results
    assert (
        "| fine-tuned | GSM8K, flexible | 1,319 | 0.2000 [0.000, 0.500] | 0.2000 [0.000, 0.500] |\n"
        in results
    )
    fine_tuning = Path("plots/curves/sft_loss.csv").read_text().splitlines()
    assert fine_tuning[1:3] == ["baseline,1,train,10,,,2.5,,,,,", "baseline,1,train,20,,,1.5,,,,,"]


def test_the_stage_writes_parity_and_the_gates_tolerance_unless_it_was_given_up(tree):
    main()
    lines = Path("plots/curves/parity.csv").read_text().splitlines()
    assert lines[1:3] == [
        "baseline,1,,2,20,60,1.9073486328125e-06,,,,,0.0001",
        "baseline,1,,4,40,120,3.814697265625e-06,,,,,0.0001",
    ]
    assert len(lines) == 5
    with_line = Path("plots/figures/evidence.png").read_bytes()
    params = yaml.safe_load(Path("params.yaml").read_text())
    Path("params.yaml").write_text(
        yaml.safe_dump({**params, "export": {"parity_tolerance": 1e9}}, sort_keys=False)
    )
    main()
    assert (
        Path("plots/curves/parity.csv").read_text().splitlines()[1]
        == "baseline,1,,2,20,60,1.9073486328125e-06,,,,,"
    )
    assert Path("plots/figures/evidence.png").read_bytes() != with_line


def test_the_stage_writes_how_much_the_facts_are_used(tree):
    main()
    lines = Path("plots/fact_usage.csv").read_text().splitlines()
    assert lines[0] == "condition,seed,where,facts,total,share"
    assert lines[1] == "baseline,,expressions in documents that became tokens,9,40,0.225"
    assert "mul_tokens,1,tokens learned in fine-tuning that are facts,1,50,0.02" in lines
    assert len(lines) == 1 + 2 * 9


def test_the_stage_writes_the_same_bytes_twice(tree):
    written = []
    for _ in range(2):
        main()
        written.append(
            {path: path.read_bytes() for path in Path("plots").rglob("*") if path.is_file()}
        )
        (tree / "plots").rename(tree / "earlier")
        Path("plots").mkdir()
        (tree / "earlier/differences.csv").rename("plots/differences.csv")
        shutil.rmtree("earlier")
    assert written[0] == written[1]


def test_the_stage_refuses_losses_of_an_older_pretrain(tree):
    """Before training.csv had bits per byte."""
    run = tree / "losses/mul_tokens/seed_1"
    rows = (run / "training.csv").read_text().splitlines()
    (run / "training.csv").write_text("".join(row.rsplit(",", 1)[0] + "\n" for row in rows))
    write_checksums(run)
    with pytest.raises(
        PipelineError,
        match=r"mul_tokens/seed_1/training\.csv: .*'train_bits_per_byte'.*; run dvc repro",
    ):
        main()
    assert [path.name for path in Path("plots").iterdir()] == ["differences.csv"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("gsm8k.json", "{}", "gsm8k.json: not the gsm8k stage's"),
        ("gsm8k.json", WITHOUT_RATES, "gsm8k.json: has no generated strict as its stage writes it"),
        ("gsm8k.json", "", "gsm8k.json: cannot be read"),
    ],
)
def test_damaged_figures_of_fine_tuning_are_named(tree, file, content, message):
    (tree / "metrics/mul_tokens/seed_1" / file).write_text(content)
    with pytest.raises(PipelineError, match=message):
        main()


def test_runs_that_answered_other_problems_are_refused(tree):
    path = tree / "metrics/mul_tokens/seed_1/gsm8k.json"
    path.write_text(path.read_text().replace("1319", "1318"))
    with pytest.raises(
        PipelineError,
        match=r"^gsm8k\.json: generated problems, strict counts \['1318', '1319'\] items; run",
    ):
        main()


@pytest.mark.parametrize("content", ["", "step\n1\n", "step,train_loss\n1,x\n"])
def test_a_damaged_curve_of_fine_tuning_is_named(tree, content):
    directory = tree / "sft_losses/baseline/seed_1"
    (directory / "training.csv").write_text(content)
    write_checksums(directory)
    with pytest.raises(
        PipelineError, match=r"training\.csv: not a curve of the sft stage .*; run dvc repro sft$"
    ):
        main()
