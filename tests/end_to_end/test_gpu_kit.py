"""`make gpu` where there is no GPU: it says so, and a rehearsal on the CPU runs its parts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

from benchmarks.gpu import __main__ as kit
from benchmarks.gpu import card, graph
from tools.generated.gpu_table import gpu_table

pytestmark = pytest.mark.slow("trains, scores and generates in processes of their own", minutes=2)

# `graph` and `tests` are run by tests/long/test_gpu_kit_graph.py.
PARTS = ("training", "evaluation", "generation", "export")


def run_kit(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True)


def test_without_a_gpu_it_says_why_in_a_line_and_succeeds(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = run_kit()
    assert (done.returncode, done.stderr) == (0, "")
    [line] = done.stdout.splitlines()
    assert line.startswith("gpu: no GPU: ")


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory) -> dict:
    output = tmp_path_factory.mktemp("rehearsal") / "gpu.json"
    done = run_kit("--rehearse", "--output", str(output), *PARTS)
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())


def test_a_rehearsal_runs_the_parts_on_the_cpu(rehearsed):
    assert rehearsed.keys() == set(PARTS)
    for name, part in rehearsed.items():
        assert part["status"] == "passed", name
        assert part["machine"]["card"] == "none: a rehearsal on the CPU"


def test_the_arms_train_the_same_and_the_shares_of_a_step_sum_to_one(rehearsed):
    found = rehearsed["training"]["figures"]
    arms = [
        found[arm] for arm in ("ours, compiled", "ours, sums in any order", "plain loop", "Trainer")
    ]
    losses = [arm["loss"] for arm in arms]
    assert max(losses) - min(losses) < 2e-2
    assert all(arm["tokens_per_second"] > 0 and arm["memory_mib"] > 0 for arm in arms)
    assert sum(found["by_kernel"].values()) == pytest.approx(1, abs=0.01)
    assert found["by_kernel"]["matrix products"] > 0


def test_evaluation_agrees_with_the_harness_and_generation_with_transformers(rehearsed):
    evaluation = rehearsed["evaluation"]["figures"]
    assert (
        evaluation["float32"]["same_predictions"]
        == f"{evaluation['items']} of {evaluation['items']}"
    )
    assert rehearsed["generation"]["figures"]["same_texts"] == "6 of 6"


def test_the_export_of_what_it_trained_is_proved(rehearsed):
    figures = rehearsed["export"]["figures"]
    assert figures["exports"] == 1
    assert figures["max_abs_logit_difference"] < 1e-4


def test_the_table_has_the_rehearsals_figures(rehearsed):
    table = gpu_table(rehearsed)
    ours = rehearsed["training"]["figures"]["ours, compiled"]
    assert f"{ours['tokens_per_second']:,} tokens/s" in table
    assert "Measured on none: a rehearsal on the CPU: date " in table
    assert table.count("goal reached") + table.count("goal missed") == 5
    assert table.count("| not run |") == 3  # of graph and tests


def test_a_rehearsal_does_not_write_where_a_gpus_figures_are_kept():
    done = run_kit("--rehearse", "generation")
    assert done.returncode == 1
    assert done.stderr == (
        "error: gpu: a rehearsal's figures are no GPU's; name another file with --output\n"
    )
    assert not kit.FIGURES.exists() or "rehearsal" not in kit.FIGURES.read_text()


def test_an_unknown_part_is_refused(tmp_path):
    done = run_kit("--rehearse", "--output", str(tmp_path / "gpu.json"), "exports")
    assert done.returncode == 2
    assert "exports" in done.stderr
    assert not (tmp_path / "gpu.json").exists()


def test_a_part_whose_packages_are_missing_is_not_run_and_fails_nothing(monkeypatch):
    monkeypatch.setitem(kit.PARTS, "export", kit.Part("x", ("no-such-package",)))
    assert kit._run("export", True) == {
        "status": "not run",
        "why": "not installed: no-such-package",
    }


def test_a_part_that_fails_is_recorded_and_the_others_figures_stay(tmp_path, monkeypatch, capsys):
    output = tmp_path / "gpu.json"
    output.write_text('{"export": {"status": "passed"}}')
    monkeypatch.setattr(sys, "argv", ["gpu", "--rehearse", "--output", str(output), "generation"])
    # Its process finds no such module, and ends with an error.
    monkeypatch.setattr(kit, "REPOSITORY", tmp_path)
    with pytest.raises(SystemExit, match=r"^error: gpu: failed: generation$"):
        kit.main()
    found = json.loads(output.read_text())
    assert found["export"] == {"status": "passed"}
    assert found["generation"]["status"] == "failed"
    assert found["generation"]["why"].startswith("exited with 1: ")
    assert "failed: exited with 1" in gpu_table({"generation": found["generation"]})


def test_a_part_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(kit, "LIMIT", 0.1)
    assert kit._run("generation", True)["why"].startswith("took longer than 0.1 s")


def test_two_runs_of_other_bytes_fail_the_graph(monkeypatch):
    locks = iter(["one", "other"])

    def run(tree: Path, *command: str) -> None:
        (tree / "dvc.lock").write_text(next(locks))

    monkeypatch.setattr(graph, "micro_tree", lambda tree, device: None)
    monkeypatch.setattr(graph, "run", run)
    monkeypatch.setattr(graph, "_figures", lambda tree: {})
    with pytest.raises(SystemExit, match="two runs wrote different bytes"):
        graph.measure(True, lambda found: None)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA A10G", None),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("a card of tomorrow", None),
    ],
)
def test_a_cards_peak_is_its_data_sheets(name, peak):
    assert card.peak_flops(name) == peak


def test_without_a_record_the_table_says_not_run():
    table = gpu_table({})
    rows = table.splitlines()[2:]
    assert rows
    assert all(row.endswith("| not run |") for row in rows)
