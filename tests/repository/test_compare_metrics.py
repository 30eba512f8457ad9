import importlib.util
import json
import subprocess

import pytest
from repository import REPOSITORY

from model.numerics import known_answer, processor

spec = importlib.util.spec_from_file_location(
    "compare_metrics", REPOSITORY / ".ci/compare_metrics.py"
)
compare_metrics = importlib.util.module_from_spec(spec)
spec.loader.exec_module(compare_metrics)

COMMITTED = {
    "acc": {"rate": 0.25, "correct": 250, "total": 1000, "interval_95": [0.22, 0.28]},
    "gold_bits_per_byte": 2.5,
    "documents_sha256": "d",
    "weights_sha256": "a",
}


def compare(**changes) -> list[str]:
    ours = {**COMMITTED, **changes}
    return compare_metrics.compare(
        "metrics/a.json", json.dumps(ours).encode(), json.dumps(COMMITTED).encode()
    )


def test_rounding_of_another_processor_passes():
    assert compare() == []
    assert compare(weights_sha256="b") == []
    assert (
        compare(gold_bits_per_byte=2.51, acc={**COMMITTED["acc"], "rate": 0.26, "correct": 260})
        == []
    )


@pytest.mark.parametrize(
    ("file", "figures", "near", "far"),
    [
        ("sft.json", {"train_loss": 1.0}, {"train_loss": 1.2}, {"train_loss": 1.4}),
        ("sft.json", {"facts": 2825}, {"facts": 2825}, {"facts": 0}),
        (
            "gsm8k.json",
            {"generated": {"rate": 0.3}},
            {"generated": {"rate": 0.4}},
            {"generated": {"rate": 0.1}},
        ),
        (
            "gsm8k.json",
            {"a": {"stopped": 1291, "cut": 0}},
            {"a": {"stopped": 1271, "cut": 20}},
            {"a": {"stopped": 0, "cut": 9}},
        ),
        (
            "gsm8k.json",
            {"a": {"rate": 0.3, "facts": 7}},
            {"a": {"rate": 0.33, "facts": 9}},
            {"a": {"rate": 0.45, "facts": 7}},
        ),
        (
            "probes/sft.json",
            {"plain": {"rate": 0.1}},
            {"plain": {"rate": 0.2}},
            {"plain": {"rate": 0.3}},
        ),
        (
            "probes/exports.json",
            {"plain": {"rate": 0.1}},
            {"plain": {"rate": 0.12}},
            {"plain": {"rate": 0.2}},
        ),
        ("pretrain.json", {"train_loss": 1.0}, {"train_loss": 1.01}, {"train_loss": 1.2}),
    ],
)
def test_what_fine_tuning_moves_may_differ_by_more(file, figures, near, far):
    committed, close_by, off = (json.dumps(each).encode() for each in (figures, near, far))
    assert compare_metrics.compare(f"metrics/baseline/seed_1/{file}", close_by, committed) == []
    assert len(compare_metrics.compare(f"metrics/baseline/seed_1/{file}", off, committed)) == 1


@pytest.mark.parametrize(
    ("model", "near", "far"),
    [
        ("pretrained", {"a": 0.32, "a_difference": -0.02, "a_holm_p": 1.0}, 0.4),
        ("fine_tuned", {"a": 0.4, "a_holm_p": 0.0}, 0.7),
    ],
)
def test_the_headline_may_differ_as_the_figures_that_it_is_of(model, near, far):
    committed = {"a": 0.3, "a_difference": 0.02, "a_holm_p": 0.001}

    def problems(figures: dict) -> list[str]:
        ours, theirs = (
            json.dumps({model: {"products": of}}).encode()
            for of in ({**committed, **figures}, committed)
        )
        return compare_metrics.compare("metrics/comparison.json", ours, theirs)

    assert problems(near) == []
    [problem] = problems({"a": far})
    assert "products.a is" in problem
    [problem] = problems({"a_holm_p": 1.5})
    assert "products.a_holm_p is 1.5" in problem


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gold_bits_per_byte": 2.8}, "gold_bits_per_byte is 2.8, committed 2.5"),
        ({"acc": {**COMMITTED["acc"], "rate": 0.4}}, "acc.rate is 0.4, committed 0.25"),
        ({"acc": {**COMMITTED["acc"], "total": 900}}, "acc.total is 900, committed 1000"),
        ({"acc": {**COMMITTED["acc"], "interval_95": [0.1, 0.28]}}, "acc.interval_95.0 is 0.1"),
        ({"documents_sha256": "e"}, "documents_sha256 is e, committed d"),
        ({"extra": 1}, "other keys than committed"),
    ],
)
def test_a_figure_beyond_it_is_named(changes, message):
    [problem] = compare(**changes)
    assert message in problem


@pytest.fixture
def rerun(tmp_path, monkeypatch):
    """A repository whose committed figures a run has just made again."""
    for name, text in {
        "dvc.lock": "stages: {}\n",
        "params.yaml": "numerics: {kernels: portable, threads: null}\n",
        "metrics/a.json": json.dumps(COMMITTED),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm a"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("identity", [True, False])
def test_identical_bytes_pass_everywhere(rerun, monkeypatch, capsys, identity):
    monkeypatch.setattr(compare_metrics, "must_be_identical", lambda: identity)
    compare_metrics.main()
    assert capsys.readouterr().out.splitlines() == [
        "dvc.lock: unchanged, so every output of every stage has the committed bytes",
        "metrics: all 1 files identical to the committed bytes",
    ]


def test_rounding_passes_only_where_bytes_may_differ(rerun, monkeypatch, capsys):
    (rerun / "metrics/a.json").write_text(json.dumps({**COMMITTED, "gold_bits_per_byte": 2.51}))
    (rerun / "dvc.lock").write_text("stages: {a: {}}\n")
    monkeypatch.setattr(compare_metrics, "must_be_identical", lambda: False)
    compare_metrics.main()
    assert "metrics: 0 of 1 files identical" in capsys.readouterr().out
    monkeypatch.setattr(compare_metrics, "must_be_identical", lambda: True)
    with pytest.raises(SystemExit, match="metrics: 2 problems in 1 committed files"):
        compare_metrics.main()
    assert capsys.readouterr().out.splitlines() == [
        "metrics/a.json: other bytes than committed",
        "dvc.lock: changed; git diff dvc.lock names the outputs",
    ]


@pytest.mark.slow("three processes that import torch")
def test_identity_is_asked_of_portable_kernels_with_the_known_answer(tmp_path, monkeypatch):
    """The command is the project's own; another answer in its place is one of other libraries."""
    for name in ("model", "pipeline", "pyproject.toml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    params = tmp_path / "params.yaml"
    params.write_text("numerics: {kernels: portable, threads: null}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")  # a user's own, which no stage gets
    assert compare_metrics.must_be_identical() == (processor.lacks() is None)
    params.write_text("numerics: {kernels: native, threads: 2}\n")
    assert not compare_metrics.must_be_identical()

    params.write_text("numerics: {kernels: portable, threads: null}\n")
    (tmp_path / "model").unlink()
    changed = tmp_path / "model/numerics/known_answer.py"
    changed.parent.mkdir(parents=True)
    for path in (REPOSITORY / "model/numerics").glob("*.py"):
        text = path.read_text().replace(known_answer.ANSWER, "0" * 64)
        (changed.parent / path.name).write_text(text)
    assert not compare_metrics.must_be_identical()
