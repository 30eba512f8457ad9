"""Figures go to a tracker once each, whatever becomes of the run or of the command meanwhile."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY
from signals import as_in_a_terminal

from model.runtime.live_figures import LiveFigures
from tools.live.track import FollowedRun, Forwarder

# The environment of docs/operations.md, made from requirements-trackers.txt.
PYTHON = REPOSITORY / ".trackers/bin/python"
needs_trackers = pytest.mark.skipif(
    not PYTHON.exists(), reason="no .trackers: docs/operations.md shows how to make it"
)
PRETRAIN = "checkpoints/a/.seed_1.scratch/0f3c"
SFT = "sft/a/seed_1/.step_40.scratch/77ab"


class Kept:
    """A tracker that keeps what it is handed."""

    def __init__(self):
        self.rows: list[tuple] = []
        self.ids: list[str] = []

    def log(self, run: FollowedRun, step: int, figures: dict[str, float]) -> None:
        self.rows.append((run.name, step, figures))
        self.ids.append(run.id)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    @property
    def steps(self) -> list[tuple]:
        return [
            (run, next(iter(figures)).partition("/")[0], step) for run, step, figures in self.rows
        ]


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "dvc.yaml").touch()
    return tmp_path


def train(root: Path, scratch: str, *steps: int, after: int = 0) -> None:
    stage = scratch.partition("/")[0].replace("checkpoints", "pretrain")
    (root / scratch).mkdir(parents=True, exist_ok=True)
    live = LiveFigures(root / scratch, f"{stage} a/seed_1", 40)
    live.go_on(after)
    for step in steps:
        live.append("training", step, train_loss=step / 8, mfu=None)


def forward(root: Path) -> Kept:
    kept = Kept()
    Forwarder(root, root / "state.json", kept).poll()
    return kept


def test_figures_are_named_by_the_stage_and_go_to_a_run_of_condition_and_seed(root):
    train(root, PRETRAIN, 10)
    train(root, SFT, 10)
    assert forward(root).rows == [
        ("a/seed_1", 10, {"pretrain/train_loss": 1.25}),
        ("a/seed_1", 10, {"sft/train_loss": 1.25}),
    ]


def test_a_run_that_goes_on_after_a_kill_gives_no_step_twice(root):
    kept = Kept()
    forwarder = Forwarder(root, root / "state.json", kept)
    train(root, PRETRAIN, 10, 20, 30)
    assert forwarder.poll() == 3
    train(root, PRETRAIN, 30, 40, after=20)
    assert forwarder.poll() == 1
    assert [step for _, step, _ in kept.rows] == [10, 20, 30, 40]


def test_a_command_that_is_started_again_gives_no_step_twice(root):
    train(root, PRETRAIN, 10, 20)
    assert [step for _, step, _ in forward(root).rows] == [10, 20]
    train(root, PRETRAIN, 30, after=20)
    assert [step for _, step, _ in forward(root).rows] == [30]


def test_the_last_rows_of_a_finished_run_are_forwarded(root):
    kept = Kept()
    forwarder = Forwarder(root, root / "state.json", kept)
    train(root, PRETRAIN, 10)
    forwarder.poll()
    live = LiveFigures(root / PRETRAIN, "pretrain a/seed_1", 40)
    live.append("training", 40, train_loss=5.0)
    (root / PRETRAIN / "live.jsonl").unlink()
    assert forwarder.poll() == 1
    assert forwarder.poll() == 0
    assert [step for _, step, _ in kept.rows] == [10, 40]


def test_a_run_of_other_code_or_parameters_is_another_run(root):
    train(root, PRETRAIN, 10, 20)
    train(root, SFT, 10)
    forward(root)
    (root / PRETRAIN).rename(root / PRETRAIN.replace("0f3c", "5e5e"))
    train(root, SFT, 20, after=10)
    assert forward(root).steps == [
        ("a/seed_1_2", "pretrain", 10),
        ("a/seed_1_2", "pretrain", 20),
        ("a/seed_1_2", "sft", 10),
        ("a/seed_1_2", "sft", 20),
    ]


def finish(root: Path, scratch: str) -> None:
    shutil.rmtree((root / scratch).parent)


def test_a_finished_run_that_is_run_again_is_another_run(root):
    kept = Kept()
    forwarder = Forwarder(root, root / "state.json", kept)
    train(root, PRETRAIN, 10, 20)
    train(root, SFT, 10)
    forwarder.poll()
    finish(root, PRETRAIN)
    finish(root, SFT)
    assert forwarder.poll() == 0
    kept.rows.clear()
    train(root, PRETRAIN, 10)
    forwarder.poll()
    train(root, PRETRAIN, 20, after=10)  # killed, and went on
    forwarder.poll()
    finish(root, PRETRAIN)
    forwarder.poll()
    train(root, SFT, 10)
    forwarder.poll()
    assert kept.steps == [
        ("a/seed_1_2", "pretrain", 10),
        ("a/seed_1_2", "pretrain", 20),
        ("a/seed_1_2", "sft", 10),
    ]


def test_a_command_that_is_started_again_knows_which_runs_had_finished(root):
    train(root, PRETRAIN, 10, 20)
    forward(root)
    finish(root, PRETRAIN)
    assert forward(root).rows == []
    train(root, PRETRAIN, 10)
    assert forward(root).steps == [("a/seed_1_2", "pretrain", 10)]
    assert forward(root).rows == []


def test_a_rerun_while_no_command_looks_is_known_by_its_folder(root):
    train(root, PRETRAIN, 10, 20)
    forward(root)
    (root / PRETRAIN).parent.rename(root / "aside")  # so that its inode is not given again
    train(root, PRETRAIN, 10)
    assert forward(root).steps == [("a/seed_1_2", "pretrain", 10)]


def test_the_last_rows_of_a_run_and_the_first_of_its_rerun_may_come_at_once(root):
    kept = Kept()
    forwarder = Forwarder(root, root / "state.json", kept)
    train(root, PRETRAIN, 10, 20)
    forwarder.poll()
    LiveFigures(root / PRETRAIN, "pretrain a/seed_1", 40).append("training", 40, train_loss=5.0)
    (root / PRETRAIN).parent.rename(root / "aside")
    train(root, PRETRAIN, 10)
    forwarder.poll()
    assert kept.steps[2:] == [("a/seed_1", "pretrain", 40), ("a/seed_1_2", "pretrain", 10)]


def test_a_run_that_is_killed_before_its_first_state_is_no_other_run(root):
    kept = Kept()
    forwarder = Forwarder(root, root / "state.json", kept)
    train(root, PRETRAIN, 10, 20)
    forwarder.poll()
    train(root, PRETRAIN, 10)
    assert forwarder.poll() == 0
    train(root, PRETRAIN, 20, 30, after=10)
    forwarder.poll()
    assert {run for run, _, _ in kept.rows} == {"a/seed_1"}
    assert [step for _, step, _ in kept.rows] == [10, 20, 30]


def test_a_run_keeps_its_id_and_no_other_clone_has_it(root):
    train(root, PRETRAIN, 10)
    train(root, SFT, 10)
    first = forward(root).ids
    train(root, PRETRAIN, 20, after=10)
    assert {*forward(root).ids} == {*first}
    assert len({*first}) == 1
    (root / "state.json").unlink()
    again = forward(root).ids
    assert {*again}.isdisjoint(first)
    (root / PRETRAIN).rename(root / PRETRAIN.replace("0f3c", "5e5e"))
    assert {*forward(root).ids}.isdisjoint([*first, *again])


def test_a_run_s_id_is_kept_before_the_tracker_hears_of_it(root):
    class Killed(Kept):
        def log(self, run: FollowedRun, step: int, figures: dict[str, float]) -> None:
            super().log(run, step, figures)
            raise KeyboardInterrupt

    killed = Killed()
    train(root, PRETRAIN, 10)
    with pytest.raises(KeyboardInterrupt):
        Forwarder(root, root / "state.json", killed).poll()
    assert forward(root).ids == killed.ids


def test_a_row_that_does_not_say_what_it_is_of_is_left_out(root):
    train(root, PRETRAIN, 10)
    with open(root / PRETRAIN / "live.jsonl", "a") as file:
        file.write('{"kind": "training", "step": 20}\n{}\n[]\n')
        file.write('{"kind": "training", "run": "pretrain a/seed_1", "step": "20"}\n')
        file.write('{"run": "pretrain a/seed_1", "step": 20}\n')
    LiveFigures(root / PRETRAIN, "pretrain a/seed_1", 40).append("training", 30, train_loss=1.0)
    assert [step for _, step, _ in forward(root).rows] == [10, 30]


@pytest.mark.parametrize("content", ["", '{"a/seed_1": {"numb', "[]", '{"a/seed_1": {}}', "\udcff"])
def test_a_damaged_state_is_one_line_that_says_what_to_move(root, content):
    train(root, PRETRAIN, 10)
    forward(root)
    state = root / "state.json"
    state.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(SystemExit) as ended:
        forward(root)
    assert str(ended.value).startswith(f"error: {state} is damaged, ")
    assert "move it" in str(ended.value)
    assert "\n" not in str(ended.value)


def command(python: Path | str, root: Path, tracker: str, *options: str) -> list[str]:
    places = ["--repository", str(root), "--folder", str(root / "trackers")]
    return [str(python), "-m", "tools.live.track", tracker, *places, *options]


def call(python: Path | str, root: Path, tracker: str) -> subprocess.CompletedProcess:
    arguments = command(python, root, tracker, "--once")
    return subprocess.run(arguments, cwd=REPOSITORY, capture_output=True, text=True)


def test_a_package_that_is_missing_is_one_line(root):
    done = call(sys.executable, root, "trackio")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "pip install pyyaml trackio" in line


def test_a_folder_without_a_pipeline_is_one_line(tmp_path):
    done = call(sys.executable, tmp_path, "tensorboard")
    assert done.returncode == 1
    assert done.stderr == f"error: --repository: {tmp_path} has no dvc.yaml; name a clone's root\n"


TENSORBOARD = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1] + "/tensorboard/a/seed_1")
events.Reload()
names = events.Tags()["tensors"]
value = lambda event: float(event.tensor_proto.float_val[0])
print(json.dumps({n: [[e.step, value(e)] for e in events.Tensors(n)] for n in names}))
"""
TRACKIO = """
import json, os, sys
os.environ["TRACKIO_DIR"] = sys.argv[1] + "/trackio"
from trackio.sqlite_storage import SQLiteStorage
found = {}
for row in SQLiteStorage.get_logs("gpt2-ablation", "a/seed_1"):
    for name, value in row.items():
        if "/" in name:
            found.setdefault(name, []).append([row["step"], value])
print(json.dumps(found))
"""


@needs_trackers
@pytest.mark.slow("starts a tracker four times", minutes=0.5)
@pytest.mark.parametrize("tracker", ["tensorboard", "trackio"])
def test_a_tracker_reads_back_each_step_once(root, tracker):
    reader = {"tensorboard": TENSORBOARD, "trackio": TRACKIO}[tracker]
    train(root, PRETRAIN, 10, 20, 30)
    train(root, SFT, 10)
    assert call(PYTHON, root, tracker).stdout.endswith(f"4 rows forwarded to {tracker}\n")
    train(root, PRETRAIN, 30, 40, after=20)
    assert call(PYTHON, root, tracker).stdout.endswith(f"1 rows forwarded to {tracker}\n")
    done = subprocess.run(
        [str(PYTHON), "-c", reader, str(root / "trackers")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "pretrain/train_loss": [[10, 1.25], [20, 2.5], [30, 3.75], [40, 5.0]],
        "sft/train_loss": [[10, 1.25]],
    }


@needs_trackers
@pytest.mark.slow("starts a tracker", minutes=0.2)
def test_ctrl_c_ends_it_without_a_traceback(root):
    train(root, PRETRAIN, 10)
    process = subprocess.Popen(
        command(PYTHON, root, "tensorboard"),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=as_in_a_terminal,
    )
    assert process.stdout.readline() == "forwarding to tensorboard; Ctrl-C ends it\n"
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "1 rows forwarded to tensorboard\n")
    assert "Traceback" not in errors
