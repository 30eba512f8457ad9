"""The whole micro graph through `dvc repro` in a temporary clone: what reruns after which edit."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

FILES = ["dvc.yaml", "profiles", "model", "stages", ".dvc/config", ".dvc/.gitignore", ".dvc/plots", ".dvcignore", ".gitignore"]
AUTHOR = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def shell(command: list[str], clone: Path, check: bool = True) -> str:
    done = subprocess.run(command, cwd=clone, env=ENVIRONMENT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert not check or done.returncode == 0, done.stdout
    return done.stdout


def repro(clone: Path) -> set[str]:
    """Run `dvc repro`; return the stages that were executed, and not restored or skipped."""
    return set(re.findall(r"Running stage '([^']+)'", shell(["dvc", "repro"], clone)))


def outputs(clone: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(clone)): path.read_bytes()
        for root in ("data", "checkpoints", "losses", "exports", "scores", "metrics", "plots")
        for path in sorted((clone / root).rglob("*"))
        if path.is_file()
    }


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has {text.count(old)} times: {old}"
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A clone of the working tree with the micro profile, regenerated once."""
    directory = tmp_path_factory.mktemp("pipeline") / "clone"
    for name in FILES:
        source, target = REPOSITORY / name, directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    shutil.copy(directory / "profiles/micro.yaml", directory / "params.yaml")
    shell(["git", "init", "-q"], directory)
    shell(["git", "add", "-A"], directory)
    shell(["git", *AUTHOR, "commit", "-qm", "micro"], directory)
    executed = repro(directory)
    assert "curves" in executed
    assert len(executed) == 15
    return directory


def test_a_second_repro_runs_nothing(clone):
    before = outputs(clone)
    assert repro(clone) == set()
    assert outputs(clone) == before


def test_git_would_commit_metrics_and_plots_and_no_data(clone):
    new = shell(["git", "status", "--short", "--untracked-files=all"], clone).split()[1::2]
    roots = {name.split("/")[0] for name in new}
    assert roots == {"dvc.lock", "metrics", "plots"}
    assert "plots/results.md" not in new


def test_the_readmes_dvc_commands_work(clone):
    shell(["git", "add", "-A"], clone)
    shell(["git", *AUTHOR, "commit", "-qm", "results"], clone)
    assert "up to date" in shell(["dvc", "status"], clone)
    assert "up to date" in shell(["dvc", "repro", "export"], clone)
    assert "export" in shell(["dvc", "dag", "--collapse-foreach-matrix", "--md"], clone)
    assert shell(["dvc", "metrics", "diff", "HEAD"], clone) == ""
    for command in (["show"], ["diff", "HEAD"]):
        shell(["dvc", "plots", *command], clone)
        page = (clone / "dvc_plots/index.html").read_text()
        for title in ("Validation loss", "HellaSwag acc_norm", "Continuation acc_norm"):
            assert title in page
        shutil.rmtree(clone / "dvc_plots")


AGAIN = [
    "params", "fetch hellaswag", "fetch ranks", "fetch passages", "corpus", "items", "tokenize mul_tokens",
    "pretrain mul_tokens 1", "export baseline 1 4", "evaluate baseline 1 4", "curves",
]  # fmt: skip


@pytest.mark.parametrize("stage", AGAIN)
def test_every_stage_gives_the_same_bytes_again(clone, stage):
    before = outputs(clone)
    shell([sys.executable, "-m", f"stages.{stage.split()[0]}", *stage.split()[1:]], clone)
    assert outputs(clone) == before


def test_a_comment_in_the_exporter_reruns_exports_and_nothing_downstream(clone):
    exporter = clone / "model/hf.py"
    exporter.write_text(exporter.read_text() + "# A remark.\n")
    before = outputs(clone)
    assert repro(clone) == {"export@baseline-1-4", "export@mul_tokens-1-4"}
    assert outputs(clone) == before, "exports give the same bytes twice"


def test_an_exporter_edit_that_changes_bytes_reruns_exports_and_what_is_downstream(clone):
    edit(clone / "model/model_card.py", "# GPT-2 ablation:", "# A GPT-2 ablation:")
    executed = repro(clone)
    assert {name.split("@")[0] for name in executed} == {"export", "evaluate"}
    assert len(executed) == 4, "the scores are the same bytes, so the curves stand"
    edit(clone / "model/model_card.py", "# A GPT-2 ablation:", "# GPT-2 ablation:")
    assert repro(clone) == set(), "undoing an edit restores everything from the run cache"


def test_a_metric_edit_reruns_evaluations_and_curves(clone):
    edit(clone / "model/stats.py", "z = 1.959963984540054", "z = 1.96")
    executed = repro(clone)
    assert executed == {"evaluate@baseline-1-4", "evaluate@mul_tokens-1-4", "curves"}
    edit(clone / "model/stats.py", "z = 1.96", "z = 1.959963984540054")
    assert repro(clone) == set()


def test_the_original_exporter_fault_stops_the_graph_and_leaves_no_export(clone):
    edit(clone / "model/hf.py", '("attn.c_proj.weight", True)', '("attn.c_proj.weight", False)')
    output = shell(["dvc", "repro"], clone, check=False)
    assert re.search(r"error: export: logits differ .* first diverging layer: transformer\.h\.0;", output)
    assert not list((clone / "exports/baseline/seed_1").iterdir())
    assert not (clone / "metrics/baseline/seed_1/step_4/parity.json").exists()
    edit(clone / "model/hf.py", '("attn.c_proj.weight", False)', '("attn.c_proj.weight", True)')
    assert repro(clone) == set()


def test_a_wrong_param_stops_the_graph_before_anything_is_deleted(clone):
    before = outputs(clone)
    edit(clone / "params.yaml", "  width: 32", "  width: 33")
    output = shell(["dvc", "repro"], clone, check=False)
    assert "error: params.yaml: model: width (33) must be a multiple of heads (2)" in output
    after = outputs(clone)
    assert {name: content for name, content in before.items() if name != "data/params.ok"} == after
    edit(clone / "params.yaml", "  width: 33", "  width: 32")
    assert repro(clone) == set()


def test_results_of_a_withdrawn_run_stop_the_curves(clone):
    """curves depends on whole directories, so what is left in them would be hashed and committed."""
    for root in ("metrics", "losses"):
        shutil.copytree(clone / root / "baseline/seed_1", clone / root / "baseline/seed_7")
    (clone / "metrics/baseline/seed_1/step_2").mkdir()
    output = shell([sys.executable, "-m", "stages.curves"], clone, check=False)
    named = "losses/baseline/seed_7 metrics/baseline/seed_7 metrics/baseline/seed_1/step_2"
    assert f"error: curves: params.yaml does not name these runs; remove their results: rm -r {named}\n" in output
    shell(["rm", "-r", *named.split()], clone)
    assert repro(clone) == set()


def test_a_second_seed_needs_one_edit_and_leaves_the_first_alone(clone):
    edit(clone / "params.yaml", "seeds: [1]", "seeds: [1, 2]")
    graph = shell(["dvc", "status"], clone, check=False)
    for stage in ("pretrain", "export", "evaluate"):
        changed = set(re.findall(rf"^({stage}@[^:]+):", graph, flags=re.MULTILINE))
        suffix = "-2" if stage == "pretrain" else "-2-4"
        assert changed == {f"{stage}@{condition}{suffix}" for condition in ("baseline", "mul_tokens")}, graph
    edit(clone / "params.yaml", "seeds: [1, 2]", "seeds: [1]")
