"""dvc.lock, metrics/ and plots/ against the tree, without data: every way they can be stale is a
line; and impact.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from committed import committed_text
from committed_clone import copy, git  # noqa: F401
from repository import REPOSITORY

from common.files import json_bytes
from pipeline.check import notes, result_findings
from pipeline.declared.dvc_yaml import below
from pipeline.declared.file_trees import GitTree, WorkingTree
from pipeline.declared.lockfile import CONTENTS, Graph, directory_hash, md5_of
from pipeline.dvc_support.record import lock
from pipeline.impact import absent, describe, read_durations
from tools.generated import doc_tables

LAST = yaml.safe_load(committed_text("params.yaml"))["pretrain"]["checkpoint_steps"][-1]
RUN = f"baseline/seed_1337/step_{LAST}"


def change_lock(copy: Path, change) -> None:
    lock = yaml.safe_load((copy / "dvc.lock").read_text())
    change(lock["stages"])
    (copy / "dvc.lock").write_text(yaml.safe_dump(lock))


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def stages_of(lines: list[str]) -> set[str]:
    """The stages that lines are about, without `report`: it names all code and parameters, so any
    edit of them makes it stale.
    """
    return {line.split(": ")[1].split("@")[0] for line in lines} - {"report"}


def test_code_edited_after_the_run(copy):
    append(copy / "model/export/weight_map.py", "# A remark.\n")
    lines = result_findings(WorkingTree(copy))
    assert (
        f"dvc.lock: export@baseline-1337-{LAST}: model/export/weight_map.py has changed; run make"
        " repro" in lines
    )
    assert stages_of(lines) == {"export"}


def test_code_edited_with_its_time_and_size_kept(copy):
    """DVC's own cache of hashes goes by time, size and inode; the check reads the bytes."""
    import os

    path = copy / "model/statistics/rates.py"
    before = path.stat()
    path.write_text(path.read_text().replace("1.959963984540054", "1.959963984540055"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert stages_of(result_findings(WorkingTree(copy))) == {
        "evaluate",
        "compare",
        "gsm8k",
        "probes",
    }


def test_a_parameter_changed_after_the_run(copy):
    path = copy / "params.yaml"
    path.write_text(
        path.read_text().replace("parity_tolerance: 1.0e-4", "parity_tolerance: 1.0e+9")
    )
    lines = result_findings(WorkingTree(copy))
    assert stages_of(lines) == {"params", "export", "compare", "curves"}
    assert any("params.yaml: export has changed in parity_tolerance" in line for line in lines)


def test_a_library_moved_after_the_run(copy):
    path = copy / "libraries.yaml"
    path.write_text(path.read_text().replace('transformers: "5.23.0"', 'transformers: "5.24.0"'))
    lines = result_findings(WorkingTree(copy))
    assert stages_of(lines) == {"export", "generate", "probes", "samples", "sft"}
    assert all(
        re.search(r"libraries.yaml: \w+ has changed in transformers", line)
        or line.startswith("dvc.lock: report: libraries.yaml has changed")
        for line in lines
    )


def test_a_metric_edited_by_hand(copy):
    path = copy / "metrics" / RUN / "evaluation.json"
    metrics = json.loads(path.read_text())
    metrics["hellaswag"]["acc_norm"]["rate"] += 0.1
    path.write_text(json.dumps(metrics))
    name = f"evaluate@baseline-1337-{LAST}"
    assert result_findings(WorkingTree(copy)) == [
        f"metrics/{RUN}/evaluation.json: is not what {name} wrote; run make repro"
    ]


@pytest.mark.parametrize("path", ["plots/curves/loss.csv", "plots/figures/combined.png"])
def test_a_plot_edited_by_hand(copy, path):
    with open(copy / path, "ab") as file:
        file.write(b"\n")
    [line] = result_findings(WorkingTree(copy))
    assert line.endswith("is not what curves wrote; run make repro")


def test_a_metric_that_is_gone(copy):
    (copy / "metrics" / RUN / "parity.json").unlink()
    assert result_findings(WorkingTree(copy)) == [
        f"metrics/{RUN}/parity.json: missing; run make repro"
    ]


def test_results_that_no_stage_writes(copy):
    (copy / "metrics/baseline/seed_7").mkdir(
        exist_ok=True
    )  # an interrupted run leaves the empty folder
    (copy / "metrics/baseline/seed_7/pretrain.json").write_text("{}")
    (copy / "plots/old.csv").write_text("")
    assert result_findings(WorkingTree(copy)) == [
        "metrics/baseline/seed_7/pretrain.json: params.yaml no longer names seed 7; run make prune",
        "plots/old.csv: no stage writes it; move it elsewhere",
    ]


def test_a_stage_that_no_longer_exists_or_never_ran(copy):
    change_lock(copy, lambda stages: stages.update(old=stages.pop("items")))
    lines = result_findings(WorkingTree(copy))
    assert "dvc.lock: items: has never run; run make repro" in lines
    assert notes(GitTree(copy)) == []
    assert notes(WorkingTree(copy)) == [
        "dvc.lock still has stages that dvc.yaml no longer gives (old); run make prune"
    ]


@pytest.mark.parametrize(
    "said",
    [
        ("README.md: tables are of no run", ""),
        ("", "plots/ has figures of another run"),
        ("", ""),
    ],
)
def test_tables_of_another_run_are_a_note_and_no_finding(copy, monkeypatch, said):
    (copy / "README.md").write_text("")
    monkeypatch.setattr(doc_tables, "compared", lambda tree: said)
    assert notes(WorkingTree(copy)) == [line for line in said if line]
    assert notes(GitTree(copy)) == []


def test_what_a_stage_that_no_longer_exists_wrote_to_the_lock_is_cut_out(copy):
    """Left in, its outputs would count among those that the curves are checked against."""
    written = (copy / "dvc.lock").read_bytes()
    for entry in (
        (
            b"  old@baseline-7:\n    cmd: 'a: b'\n    outs:\n    - path: metrics/old.json\n     "
            b" md5: 1\n"
        ),
        b"  old:\n    cmd: x\n",
    ):
        head, items, tail = written.partition(b"  items:\n")
        (copy / "dvc.lock").write_bytes(head + entry + items + tail)
        assert lock(WorkingTree(copy)) == written
        (copy / "dvc.lock").write_bytes(written + entry)
        assert lock(WorkingTree(copy)) == written
    change_lock(copy, lambda stages: stages.update({"?": {"cmd": "x"}}))
    with pytest.raises(
        SystemExit, match=r"error: dvc.lock: \?: dvc.yaml has no such stage; delete its entry"
    ):
        lock(WorkingTree(copy))


def test_an_edited_command_or_dependency_list(copy):
    path = copy / "dvc.yaml"
    text = path.read_text().replace(
        "cmd: python -m stages.curves", "cmd: python -m stages.curves now"
    )
    path.write_text(text.replace("      - model/curves\n", "", 1))
    lines = result_findings(WorkingTree(copy))
    assert "dvc.lock: curves: its command was 'python -m stages.curves'; run make repro" in lines
    assert "dvc.lock: curves: model/curves is no dependency any more; run make repro" in lines


def test_an_export_of_an_older_checkpoint_below_an_output_directory(copy):
    """What `dvc repro --dry --allow-missing` passes: the dependency is a part of another stage's
    output directory.
    """
    name = f"export@baseline-1337-{LAST}"

    def older(stages):
        [dep] = [dep for dep in stages[name]["deps"] if dep["path"].startswith("checkpoints/")]
        dep["md5"] = "0" * 32 + ".dir"

    change_lock(copy, older)
    assert result_findings(WorkingTree(copy)) == [
        f"dvc.lock: {name}: checkpoints/{RUN} has changed; run make repro"
    ]


def test_a_retrained_checkpoint_that_was_not_exported_again(copy):
    """The same hole from the other side: pretrain has run again, what reads its parts has not."""
    graph = Graph(WorkingTree(copy))
    path = "checkpoints/baseline/seed_1337"
    assert path in graph.lock["pretrain@baseline-1337"].outs
    contents = {
        name: md5_of(f"{md5} again".encode()) if below(name, path) else md5
        for name, md5 in graph.contents.items()
    }
    again = directory_hash(
        {name[len(path) + 1 :]: md5 for name, md5 in contents.items() if below(name, path)}
    )
    (copy / CONTENTS).write_bytes(json_bytes(contents))

    def retrain(stages):
        record(stages, path, again)
        record(stages, CONTENTS, md5_of(json_bytes(contents)))

    change_lock(copy, retrain)
    lines = result_findings(WorkingTree(copy))
    steps = yaml.safe_load((copy / "params.yaml").read_text())["pretrain"]["checkpoint_steps"]
    assert lines == [
        *(
            f"dvc.lock: export@baseline-1337-{step}: checkpoints/baseline/seed_1337/step_{step} has"
            " changed; run make repro"
            for step in steps
        ),
        "dvc.lock: contents: checkpoints has changed; run make repro",
    ]


def test_upstream_that_has_run_again_makes_its_readers_stale(copy):
    def again(stages):
        for path in ("data/items", "losses/baseline/seed_1337"):
            [out] = [
                out for stage in stages.values() for out in stage["outs"] if out["path"] == path
            ]
            out["md5"] = "0" * 32 + ".dir"

    change_lock(copy, again)
    lines = result_findings(WorkingTree(copy))
    assert (
        f"dvc.lock: evaluate@baseline-1337-{LAST}: data/items has changed; run make repro" in lines
    )
    assert (
        f"dvc.lock: curves: {CONTENTS} does not list the files of losses/baseline/seed_1337; run"
        " make repro" in lines
    )


def test_a_listing_that_lies_is_not_believed(copy):
    contents = json.loads((copy / CONTENTS).read_text())
    (copy / CONTENTS).write_bytes(json_bytes(dict.fromkeys(contents, "0" * 32)))
    change_lock(
        copy, lambda stages: record(stages, CONTENTS, md5_of((copy / CONTENTS).read_bytes()))
    )
    lines = result_findings(WorkingTree(copy))
    assert lines
    assert all("does not list the files of" in line for line in lines)


def test_a_listing_that_the_stage_did_not_write_is_named(copy):
    contents = json.loads((copy / CONTENTS).read_text())
    (copy / CONTENTS).write_bytes(json_bytes({**contents, "checkpoints/mine": "0"}))
    assert result_findings(WorkingTree(copy)) == [
        f"{CONTENTS}: is not what contents wrote; run make repro"
    ]


def test_the_index_is_checked_and_not_the_disk(copy):
    append(copy / "model/export/weight_map.py", "# A remark.\n")
    assert result_findings(GitTree(copy)) == []
    git(copy, "add", "model/export/weight_map.py")
    append(copy / "model/statistics/rates.py", "# Not staged.\n")
    assert stages_of(result_findings(GitTree(copy))) == {"export"}


def test_the_hook_refuses_a_commit_that_the_check_would(copy, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path_factory.mktemp("pre_commit")))
    for name in (".pre-commit-config.yaml", "pyproject.toml", "requirements.txt"):
        shutil.copy(REPOSITORY / name, copy)
    for name in ("pipeline", "tools"):
        shutil.copytree(REPOSITORY / name, copy / name)
    (copy / ".venv").symlink_to(sys.prefix)
    (copy / ".gitignore").write_text("/.venv\n__pycache__\n")
    git(copy, "add", "-A")
    git(copy, "commit", "-qm", "tools")
    subprocess.run([".venv/bin/pre-commit", "install"], cwd=copy, check=True, capture_output=True)
    append(copy / "model/export/weight_map.py", "\n\n# A remark.\n")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        git(copy, "commit", "-qam", "edit")
    said = refused.value.stdout + refused.value.stderr
    assert said.count("- hook id: ") == said.count("- hook id: check\n") == 1
    assert "model/export/weight_map.py has changed" in said
    assert git(copy, "log", "--format=%s").splitlines() == ["tools", "results"]


def impact(copy: Path, before: str = "", code: str = "") -> list[str]:
    results = GitTree(copy, before or "HEAD")
    return describe(
        Graph(GitTree(copy, code) if code else WorkingTree(copy), results if before else None),
        results,
        {},
    )


def test_impact_of_nothing(copy):
    assert impact(copy) == [
        "impact: no stage would rerun; make check tells whether the figures are as they were"
        " recorded"
    ]


def test_impact_of_an_exporter_edit_names_the_stages_the_figures_and_the_plots(copy):
    append(copy / "model/export/weight_map.py", "# A remark.\n")
    lines = impact(copy)
    steps = len(yaml.safe_load((copy / "params.yaml").read_text())["pretrain"]["checkpoint_steps"])
    assert lines[0] == "these stages rerun:"
    assert lines[1] == f"  {2 * steps} × export: model/export/weight_map.py has changed"
    assert lines[2] == "  report: model/export/weight_map.py has changed", "it names all code"
    assert (
        f"  {2 * steps} × evaluate, {2 * steps} × samples, 2 × sft, 2 × generate, 2 × gsm8k,"
        " 4 × probes, compare, curves, contents" in lines
    )
    figures = 2 * (steps * (4 + 60) + 6 + 58 + 2 * 60) + 22 * 3
    assert f"until then these {figures} figures and 8 plots committed at HEAD are invalid:" in lines
    for line in lines[:6]:
        assert line in committed_text("docs/walkthrough.md")
    assert f"  metrics/{RUN}/evaluation.json: 60" in lines
    assert not any("pretrain.json" in line for line in lines), (
        "training does not depend on the exporter"
    )
    assert lines[-1] == "time: not recorded on this machine yet; make repro records it"


def test_impact_says_which_outputs_are_not_in_the_tree(copy):
    graph = Graph(WorkingTree(copy))
    outs = sorted(out for instance in graph.instances.values() for out in instance.outs)
    for out in outs:
        (copy / out).mkdir(parents=True, exist_ok=True)
    assert absent(graph, copy) == []
    for gone in ("scores/baseline/seed_1337/step_500", "exports/baseline/seed_1337/step_500"):
        (copy / gone).rmdir()
    [line] = absent(graph, copy)
    assert line.startswith(
        f"2 of {len(outs)} outputs are not here (exports/baseline/seed_1337/step_500): "
    )


def test_impact_counts_the_figures_of_stages_that_are_gone(copy):
    path = copy / "params.yaml"
    steps = yaml.safe_load(path.read_text())["pretrain"]["checkpoint_steps"]
    path.write_text(
        path.read_text().replace(f"checkpoint_steps: {steps}", f"checkpoint_steps: {steps[1:]}")
    )
    lines = impact(copy)
    assert lines[0].startswith(
        f"these stages are gone: evaluate@baseline-1337-{steps[0]},"
        f" evaluate@mul_tokens-1337-{steps[0]}, "
    )
    assert f"  metrics/baseline/seed_1337/step_{steps[0]}/evaluation.json: 60" in lines


def test_an_export_kept_past_the_gate_is_found(copy):
    path = copy / "metrics" / RUN / "parity.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_abs_logit_difference": 11.8}))
    change_lock(
        copy, lambda stages: record(stages, f"metrics/{RUN}/parity.json", md5_of(path.read_bytes()))
    )
    lines = result_findings(WorkingTree(copy))
    assert any(
        line.startswith(
            f"metrics/{RUN}/parity.json: logits differ by 11.8, so it is not its checkpoint"
        )
        for line in lines
    )


def record(stages: dict, path: str, md5: str) -> None:
    [out] = [out for stage in stages.values() for out in stage["outs"] if out["path"] == path]
    out["md5"] = md5


@pytest.mark.parametrize("file", ["dvc.lock", "params.yaml", CONTENTS])
def test_a_file_that_cannot_be_parsed_is_one_line(copy, file):
    (copy / file).write_text("<<<<<<< ours\n" + (copy / file).read_text())
    for command in ("check", "impact"):
        done = subprocess.run(
            [sys.executable, "-m", f"pipeline.{command}"],
            cwd=copy,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(REPOSITORY)},
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert len((done.stdout + done.stderr).strip().splitlines()) <= 2


def test_impact_of_a_wrong_params_file_is_not_everything(copy):
    """The params stage reruns on any edit, and its output never changes."""
    path = copy / "params.yaml"
    path.write_text(path.read_text().replace("batch_tokens: 8192", "batch_tokens: 4096"))
    lines = impact(copy)
    assert lines[1] == "  params: params.yaml has changed"
    assert lines[2].endswith("× evaluate: params.yaml: evaluate has changed in batch_tokens")
    assert {"  compare: params.yaml has changed", "  contents"} <= set(lines)


def test_impact_names_the_instances_where_they_are_not_all_of_a_stage(copy):
    change_lock(copy, lambda stages: stages.pop(f"evaluate@baseline-1337-{LAST}"))
    assert impact(copy)[1] == f"  evaluate@baseline-1337-{LAST}: has never run"


def test_impact_of_a_revision_range(copy):
    append(copy / "model/export/weight_map.py", "# A remark.\n")
    git(copy, "commit", "-qam", "exporter")
    append(copy / "model/statistics/rates.py", "# A remark.\n")
    git(copy, "commit", "-qam", "statistics")
    between = [line for line in impact(copy, "HEAD~1", "HEAD") if "has changed" in line]
    assert {line.split()[2].strip(":") for line in between} == {
        "export",
        "evaluate",
        "gsm8k",
        "probes",
        "has",
    }, (
        # "has": `report: model has changed`
        "HEAD~1 had not been run again either"
    )
    assert any("model/statistics/rates.py" in line for line in impact(copy, "HEAD~2", "HEAD"))
    assert not any("model/statistics/rates.py" in line for line in impact(copy, "HEAD~2", "HEAD~1"))


def test_impact_counts_recorded_seconds_and_takes_other_instances_where_one_has_none(copy):
    durations = copy / ".dvc/tmp/durations"
    durations.mkdir(parents=True)
    (durations / "export@baseline-1337-500").write_text("10.00\n")
    (durations / "export@mul_tokens-1337-500").write_text("")
    append(copy / "model/export/weight_map.py", "# A remark.\n")
    graph = Graph(WorkingTree(copy))
    lines = describe(graph, GitTree(copy, "HEAD"), read_durations(copy))
    exports = sum(name.startswith("export@") for name in graph.instances)
    minutes, seconds = divmod(10 * exports, 60)
    spent = f"{minutes} min {seconds} s"
    rest = (
        f"{exports} × evaluate, {exports} × samples, 2 × sft, 2 × generate, 2 × gsm8k, 4 × probes,"
        " compare, curves, contents, report"
    )
    assert (
        lines[-1]
        == f"time: {spent}, or {spent} with what follows; without {rest}, not recorded here yet"
    )
