"""What reruns in the micro graph after which edit, through `dvc repro` in a temporary clone."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conditions import named, set_conditions
from micro_graph import (  # noqa: F401
    AUTHOR,
    ENVIRONMENT,
    changed,
    copy_of,
    edit,
    finished_graph,
    outputs,
    repro,
    shell,
)
from repository import REPOSITORY
from strace import trace, undeclared

from pipeline.check import check, notes
from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph

pytestmark = pytest.mark.slow(
    "dvc starts, reads the graph and runs stages, a process each, after each of thirty edits",
    minutes=10,
)
STRACE = shutil.which("strace") is not None


@pytest.fixture(scope="module")
def clone(finished_graph, tmp_path_factory) -> Path:
    """The finished micro graph, committed."""
    directory = copy_of(finished_graph, tmp_path_factory.mktemp("pipeline") / "clone")
    shell(["git", "add", "-A"], directory)
    shell(["git", *AUTHOR, "commit", "-qm", "results"], directory)
    return directory


def test_the_readmes_dvc_commands_work(clone):
    assert "up to date" in shell(["dvc", "status"], clone)
    assert check(WorkingTree(clone)) == []
    shell(["make", "--old-file=.venv/.ready", "check"], clone)
    assert "up to date" in shell(["dvc", "repro", "export"], clone)
    assert "export" in shell(["dvc", "dag", "--collapse-foreach-matrix", "--md"], clone)
    assert shell(["dvc", "metrics", "diff", "HEAD"], clone) == ""
    said = shell(["make", "--old-file=.venv/.ready", "diff", "REV=HEAD"], clone)
    assert (
        said == "Differences of the working tree from HEAD:\nno parameter\n\nno headline figure\n"
    )
    shell([sys.executable, "-m", "tools.generated.dvc_plots"], clone)
    for command in (["show"], ["diff", "HEAD"]):
        shell(["dvc", "plots", *command], clone)
        page = (clone / "dvc_plots/index.html").read_text()
        assert "https://cdn" not in page
        for title in (
            "Loss, on its own tokens",
            "Gradient norm",
            "Fine-tuning loss",
            "HellaSwag acc_norm",
            "Continuation acc_norm",
        ):
            assert title in page
        shutil.rmtree(clone / "dvc_plots")


AGAIN = [
    "params",
    "fetch tasks",
    "fetch ranks",
    "fetch passages",
    "fetch gsm8k",
    "fetch conversations",
    "corpus",
    "items",
    "tokenize mul_tokens",
    "distinct",
    "pretrain mul_tokens 1",
    "export baseline 1 200",
    "evaluate baseline 1 200",
    "samples mul_tokens 1 200",
    "problems",
    "sft mul_tokens 1",
    "generate mul_tokens 1",
    "gsm8k mul_tokens 1",
    "probes exports mul_tokens 1",
    "probes sft baseline 1",
    "compare",
    "curves",
    "contents",
]


@pytest.mark.parametrize("stage", AGAIN)
def test_every_stage_gives_the_same_bytes_again_and_opens_what_it_declares(clone, stage):
    """The seal's cross-check: strace sees every file that is opened, by whatever code."""
    before = outputs(clone)
    command = ["python", "-m", f"stages.{stage.split()[0]}", *stage.split()[1:]]
    if STRACE:
        [instance] = [
            one
            for one in read_instances(WorkingTree(clone)).values()
            if one.command == " ".join(command)
        ]
        opened = trace([sys.executable, *command[1:]], clone)
        assert undeclared(instance, opened) == []
        assert {entry.path for entry in opened} >= {
            dep for dep in instance.deps if dep.endswith(".py")
        }
    else:
        shell([sys.executable, *command[1:]], clone)
    assert outputs(clone) == before


@pytest.mark.skipif(not STRACE, reason="strace is not installed")
def test_strace_sees_what_the_seal_would_not_be_told_of(clone):
    """The cross-check itself: an unsealed process that reads natively, reads from Python, and
    writes.
    """
    script = (
        "import pyarrow as pa; pa.memory_map('data/items/hellaswag.jsonl').read(1);"
        " open('profiles/micro.yaml').read(); open('data/new', 'w')"
    )
    instance = read_instances(WorkingTree(clone))["params"]
    opened = trace([sys.executable, "-c", script], clone)
    (clone / "data/new").unlink()
    assert undeclared(instance, opened) == [
        ("data/items/hellaswag.jsonl", False),
        ("data/new", True),
        ("profiles/micro.yaml", False),
    ]


def test_a_comment_in_the_exporter_reruns_exports_and_nothing_downstream(clone):
    exporter = clone / "model/export/weight_map.py"
    exporter.write_text(exporter.read_text() + "# A remark.\n")
    before = outputs(clone)
    stale = Graph(WorkingTree(clone)).stale()
    assert (
        set(stale)
        == {*changed(clone), "report"}
        == {"export@baseline-1-200", "export@mul_tokens-1-200", "report"}
    )
    report = (clone / "plots/report.html").read_bytes()
    assert repro(clone) == {"export@baseline-1-200", "export@mul_tokens-1-200"}
    assert outputs(clone) == before, "exports give the same bytes twice"
    assert (clone / "plots/report.html").read_bytes() != report, "and the report names the new code"


def test_an_exporter_edit_that_changes_bytes_reruns_exports_and_what_is_downstream(clone):
    edit(clone / "model/export/model_card.py", "# GPT-2 ablation:", "# A GPT-2 ablation:")
    executed = repro(clone)
    assert {name.split("@")[0] for name in executed} == {
        "export",
        "evaluate",
        "probes",
        "samples",
        "sft",
    }
    assert len(executed) == 10, (
        "the model card is no part of a fine-tuned model, and scores are the same bytes: all else"
        " stands"
    )
    edit(clone / "model/export/model_card.py", "# A GPT-2 ablation:", "# GPT-2 ablation:")
    assert repro(clone) == set(), "undoing an edit restores everything from the run cache"


PROBES = {
    f"probes@{models}-{condition}-1"
    for models in ("exports", "sft")
    for condition in ("baseline", "mul_tokens")
}


def test_a_metric_edit_reruns_evaluations_and_curves(clone):
    edit(clone / "model/statistics/rates.py", "z = 1.959963984540054", "z = 1.96")
    executed = repro(clone)
    conditions = ("baseline-1", "mul_tokens-1")
    expected = {
        *(f"evaluate@{run}-200" for run in conditions),
        *(f"gsm8k@{run}" for run in conditions),
        *PROBES,
        "compare",
        "curves",
    }
    assert executed == expected
    edit(clone / "model/statistics/rates.py", "z = 1.96", "z = 1.959963984540054")
    assert repro(clone) == {
        "compare",
        "curves",
    }, "their outputs are in git, for which DVC keeps no second copy"


def test_an_edit_of_the_answer_reader_reruns_the_reading_and_no_generation(clone):
    edit(
        clone / "model/post_training/answer_reading.py",
        "_LONGEST_NUMBER = 30",
        "_LONGEST_NUMBER = 31",
    )
    executed = repro(clone)
    assert {name.split("@")[0] for name in executed} == {"gsm8k"}, (
        "nobody gave such a number: the figures stand"
    )
    edit(
        clone / "model/post_training/answer_reading.py",
        "_LONGEST_NUMBER = 31",
        "_LONGEST_NUMBER = 30",
    )
    assert repro(clone) == set()


def test_a_killed_fine_tuning_goes_on_to_the_same_bytes(clone):
    before, killed = outputs(clone), 0
    command = [sys.executable, "-m", "stages.sft", "baseline", "1"]
    for _ in range(5):  # on a busy machine it may be over before it is seen to have a state
        shutil.rmtree(clone / "sft/baseline")  # as dvc does before it runs a stage
        with subprocess.Popen(
            command,
            cwd=clone,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            sums = "sft/baseline/seed_1/.*.scratch/*/checkpoint-*/SHA256SUMS"
            while process.poll() is None and not any(
                path.stat().st_size for path in clone.glob(sums)
            ):
                time.sleep(0.001)
            process.kill()
        if process.returncode == -signal.SIGKILL:
            killed += 1
            assert re.search(
                "sft baseline/seed_1: resumes from step [24]0\n", shell(command, clone)
            )
        assert outputs(clone) == before
        if killed == 2:
            return
    raise AssertionError(f"{killed} of 5 runs were killed while they had a state")


def test_what_make_clean_artifacts_frees_comes_back_from_the_cache_and_by_work(clone):
    before = outputs(clone)
    said = shell(["make", "clean-artifacts"], clone)
    assert "dvc repro" in said
    gone = [name for name in before if not (clone / name).exists()]
    assert {name.split("/")[0] for name in gone} == {
        "checkpoints",
        "exports",
        "generations",
        "samples",
        "scores",
        "sft",
    }
    assert repro(clone) == set(), "nothing is computed"
    assert outputs(clone) == before
    for run in [path for path in (clone / ".dvc/cache/runs").rglob("*") if path.is_file()]:
        if re.search("stages[.](export|sft) ", run.read_text()):
            run.unlink()
    for recorded in Graph(WorkingTree(clone)).lock.values():
        for out, md5 in recorded.outs.items():
            if out.startswith(("exports/", "sft/")):
                shutil.rmtree(clone / out)
                (clone / ".dvc/cache/files/md5" / md5[:2] / md5[2:]).unlink()
    assert {name.split("@")[0] for name in repro(clone)} == {
        "export",
        "sft",
    }, "computed where the cache has nothing"
    assert outputs(clone) == before


def difference_of_logits(clone: Path, condition: str) -> float:
    return json.loads((clone / f"metrics/{condition}/seed_1/step_200/parity.json").read_text())[
        "max_abs_logit_difference"
    ]


def test_the_walkthrough(clone):
    """Run every command of docs/walkthrough.md, in order, on the micro profile.

    The gate stops and names the fault; then the fault is let past and undone.
    """
    text = (REPOSITORY / "docs/walkthrough.md").read_text()
    commands = re.findall(r"^\$ (.*)$", text, flags=re.MULTILINE)
    assert len(commands) == 10
    shell(["git", "add", "-A"], clone)  # of what is not committed the file could not be named
    shell(["git", *AUTHOR, "commit", "-qm", "before the fault", "--allow-empty"], clone)
    shell([sys.executable, "-m", "tools.generated.dvc_plots"], clone)  # as make's set-up does
    before, conditions = outputs(clone), ("baseline", "mul_tokens")
    assert all(difference_of_logits(clone, condition) <= 1e-4 for condition in conditions)
    (
        branch,
        fault,
        impact,
        stopped,
        open_gate,
        let_past,
        metrics_diff,
        verdict,
        _plots_diff,
        undone,
    ) = range(10)
    said = []
    for number, command in enumerate(commands):
        said.append(shell(["bash", "-c", command], clone, check=number != stopped))
        if number == stopped:
            assert not list((clone / "exports/baseline/seed_1").iterdir()), (
                "no wrong export is left"
            )
            assert not (clone / "metrics/baseline/seed_1/step_200/parity.json").exists()
        if number == let_past:
            broken, remade = (
                {condition: difference_of_logits(clone, condition) for condition in conditions},
                outputs(clone),
            )
    assert "Switched to a new branch" in said[branch]
    assert said[fault] == said[open_gate] == ""
    assert "  2 × export: model/export/weight_map.py has changed\n" in said[impact]
    assert "until then these 562 figures and 8 plots committed at HEAD are invalid" in said[impact]
    assert re.search(
        r"error: export: transformer\.h\.0\.attn\.c_proj differs .*: its weight is stored"
        r" untransposed;",
        said[stopped],
    )
    # All that was made of the right exports is made again, and is not what it was.
    executed = set(re.findall(r"Running stage '([^'@]+)", said[let_past]))
    assert executed == {
        "params",
        "export",
        "evaluate",
        "samples",
        "sft",
        "generate",
        "gsm8k",
        "probes",
        "compare",
        "curves",
        "contents",
        "report",
    }
    for name in (
        f"sft/{RUN}/step_200/model.safetensors",
        f"generations/{RUN}/generated.jsonl",
        f"sft_losses/{RUN}/training.csv",
    ):
        assert remade[name] != before[name]
    for condition in conditions:
        assert broken[condition] > 0.05
        assert f"metrics/{condition}/seed_1/step_200/evaluation.json" in said[metrics_diff]
    assert "gold_bits_per_byte" in said[metrics_diff]
    assert re.search(
        "differs from [^ ]+ by more than other items explain in (none|[0-9]+) of [0-9]+ figures",
        said[verdict],
    )
    assert "not of its code" not in said[verdict]
    page = (clone / "dvc_plots/index.html").read_text()
    assert "HellaSwag, true endings" in page
    assert '"rev": "main"' in page
    assert '"rev": "workspace"' in page
    shutil.rmtree(clone / "dvc_plots")
    assert (clone / "fault.png").stat().st_size > 20_000
    assert "Running stage" not in said[undone]
    assert outputs(clone) == before
    assert shell(["git", "status", "--short"], clone) == ""
    assert shell(["git", "branch", "--show-current"], clone) == "main\n"


def test_a_library_moves_what_computes_with_it_and_is_refused_until_it_is_installed(clone):
    locked = re.search(r'transformers: "(.*?)"', (clone / "libraries.yaml").read_text())[1]
    before = outputs(clone)
    libraries = (clone / "libraries.yaml").read_text()
    moved = libraries.replace(f'transformers: "{locked}"', 'transformers: "5.0.0"')
    (clone / "libraries.yaml").write_text(moved)
    assert {name.split("@")[0] for name in changed(clone)} == {
        "export",
        "generate",
        "probes",
        "samples",
        "sft",
    }
    output = shell(["dvc", "repro"], clone, check=False)
    assert (
        f"error: export@baseline-1-200: transformers {locked} installed, libraries.yaml declares"
        " 5.0.0; run make setup" in output
    )
    (clone / "libraries.yaml").write_text(libraries)
    assert repro(clone) == set()
    assert outputs(clone) == before


RUN = "baseline/seed_1"
EVALUATE = [sys.executable, "-m", "stages.evaluate", "baseline", "1", "200"]


def test_several_processes_score_to_the_same_bytes_and_only_the_first_may_write(clone):
    before = outputs(clone)
    edit(clone / "params.yaml", "dtype: float32\n  processes: 1", "dtype: float32\n  processes: 2")
    # compare and curves depend on all of params.yaml, where the order of conditions counts.
    ran = {name.split("@")[0] for name in repro(clone)}
    assert ran == {"params", "evaluate", "compare", "curves"}
    assert outputs(clone) == before
    edit(clone / "stages/evaluate.py", "if processes.rank == 0:", "if True:")
    output = shell(EVALUATE, clone, check=False)
    # Which of the two depends on how far the first process is.
    assert re.search(
        r"error: seal: evaluate@baseline-1-200 (changed|listed)"
        r" scores/baseline/seed_1/\.step_200\.partial",
        output,
    )
    edit(clone / "stages/evaluate.py", "if True:", "if processes.rank == 0:")
    edit(clone / "params.yaml", "dtype: float32\n  processes: 2", "dtype: float32\n  processes: 1")
    assert repro(clone) <= {"compare", "curves"}, "their outputs are in git"
    assert outputs(clone) == before


def test_a_rank_that_a_scheduler_left_in_the_environment_changes_nothing(clone):
    before = outputs(clone)
    shell(
        ["env", "RANK=1", "LOCAL_RANK=1", "WORLD_SIZE=2", sys.executable, "-m", "stages.items"],
        clone,
    )
    assert outputs(clone) == before


def test_the_error_of_a_process_ends_the_stage_and_is_shown(clone):
    before = outputs(clone)
    edit(clone / "params.yaml", "dtype: float32\n  processes: 1", "dtype: float32\n  processes: 2")
    edit(
        clone / "stages/evaluate.py",
        "    scores = {}\n",
        "    scores = {}\n    if processes.rank: read_stored_items(Path('data/items/none'))\n",
    )
    output = shell(EVALUATE, clone, check=False)
    advice = "delete data/items and run dvc repro; if the error returns, run make cache first"
    assert f"error: data/items/none: missing or altered since it was written; {advice}" in output
    assert "stages.evaluate FAILED" in output
    assert outputs(clone) == before
    shell(["git", "checkout", "stages/evaluate.py", "params.yaml"], clone)
    assert repro(clone) == set()


def test_an_undeclared_read_stops_the_graph(clone):
    before = outputs(clone)
    edit(
        clone / "stages/items.py",
        "    params = read_section",
        '    Path("profiles/micro.yaml").read_text()\n    params = read_section',
    )
    output = shell(["dvc", "repro"], clone, check=False)
    assert (
        "error: seal: items read profiles/micro.yaml, which dvc.yaml does not list under this"
        " stage's deps" in output
    )
    shell(["git", "checkout", "stages/items.py"], clone)
    assert repro(clone) == set()
    assert outputs(clone) == before


def test_a_wrong_param_stops_the_graph_before_anything_is_deleted(clone):
    before = outputs(clone)
    edit(clone / "params.yaml", "  width: 32", "  width: 33")
    output = shell(["dvc", "repro"], clone, check=False)
    assert "error: params.yaml: model: width (33) must be a multiple of heads (2)" in output
    after = outputs(clone)
    assert {name: content for name, content in before.items() if name != "data/params.ok"} == after
    edit(clone / "params.yaml", "  width: 33", "  width: 32")
    assert repro(clone) == set()


def test_a_withdrawn_condition_is_named_at_once_and_pruned_in_one_pass(clone):
    """The first stage that starts says so, whoever starts it; afterwards no other stage finds
    anything of it.
    """
    before = outputs(clone)
    text = (clone / "params.yaml").read_text()
    set_conditions(clone / "params.yaml", named("baseline", "Mul_tokens"))
    output = shell(["dvc", "repro"], clone, check=False)
    assert "error: params.yaml: conditions.Mul_tokens: String should match pattern" in output
    assert "make prune" not in output, "a wrong name is no reason to remove results"
    set_conditions(clone / "params.yaml", named("baseline"))
    line = "error: params.yaml no longer names condition mul_tokens, whose results are still here ("
    for command in ([sys.executable, "-m", "stages.params"], ["dvc", "repro"]):
        output = shell(command, clone, check=False)
        assert line in output
        assert output.count("Running stage") <= 1
    output = shell(["make", "--old-file=.venv/.ready", "prune", "YES=1"], clone)
    assert " entries of dvc.lock: evaluate@mul_tokens-1-200, " in output
    assert not [
        name for name in outputs(clone) if "mul_tokens" in name and not name.startswith("plots/")
    ]
    assert repro(clone) == {"params", "distinct", "compare", "curves", "contents"}
    assert check(WorkingTree(clone)) == notes(WorkingTree(clone)) == []
    (clone / "params.yaml").write_text(text)
    assert repro(clone) <= {
        "params",
        "compare",
        "curves",
        "contents",
    }, "models and scores come from the cache"
    assert outputs(clone) == before
    assert check(WorkingTree(clone)) == []


def test_after_an_edit_of_dvc_yaml_and_its_undoing_a_plain_repro_is_enough(clone):
    lines = ["      - data/corpus\n", "      - data/raw/tasks\n"]
    edit(clone / "dvc.yaml", "".join(lines), "".join(lines[::-1]))
    assert repro(clone) == set()
    assert check(WorkingTree(clone)) == notes(WorkingTree(clone)) == []
    edit(clone / "dvc.yaml", "".join(lines[::-1]), "".join(lines))
    assert repro(clone) == set()
    assert check(WorkingTree(clone)) == []


def test_a_second_seed_needs_one_edit_and_leaves_the_first_alone(clone):
    edit(clone / "params.yaml", "seeds: [1]", "seeds: [1, 2]")
    graph = shell(["dvc", "status"], clone, check=False)
    for stage in ("pretrain", "export", "evaluate", "sft", "generate", "gsm8k"):
        changed = set(re.findall(rf"^({stage}@[^:]+):", graph, flags=re.MULTILINE))
        suffix = "-2-200" if stage in ("export", "evaluate") else "-2"
        assert changed == {
            f"{stage}@{condition}{suffix}" for condition in ("baseline", "mul_tokens")
        }, graph
    edit(clone / "params.yaml", "seeds: [1, 2]", "seeds: [1]")
