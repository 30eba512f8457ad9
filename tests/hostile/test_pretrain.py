"""The pretrain stage as DVC starts it, sealed: killed at any moment, by several processes, of
several seeds.
"""

import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from glob import glob
from pathlib import Path

import numpy as np
import pytest
import yaml
from repository import REPOSITORY
from small_objects import write_token_split

pytestmark = pytest.mark.slow(
    "the pretrain stage is killed and started again, some twenty times", minutes=5
)

KILLS = 20
STEPS = {
    "max_steps": 120,
    "checkpoint_steps": [40, 80, 120],
    "log_every": 5,
    "state_every": 5,
    "validate_every": 20,
}
OUTPUTS = ("checkpoints", "losses", "metrics")


class Project:
    """A copy of the code with tokens of its own to train on."""

    def __init__(self, root: Path):
        self.root = root
        for name in ("pipeline", "common", "model", "stages"):
            shutil.copytree(
                REPOSITORY / name, root / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in (".dvcignore", "dvc.yaml", "libraries.yaml", "pyproject.toml"):
            shutil.copy(REPOSITORY / name, root / name)
        self.params(**STEPS)
        generator = np.random.default_rng(0)
        documents = [
            [0, *generator.integers(1, 100, size=generator.integers(5, 90)).tolist()]
            for _ in range(400)
        ]
        write_token_split(
            root / "data/tokens/baseline", documents, ["text"] * 300 + ["drills"] * 100
        )

    def params(self, seeds: tuple[int, ...] = (1,), kernels: str = "portable", **pretrain) -> None:
        params = yaml.safe_load((REPOSITORY / "profiles/micro.yaml").read_text())
        params["pretrain"] |= STEPS | pretrain
        params["seeds"] = list(seeds)
        params["numerics"] = {"kernels": kernels, "threads": 1 if kernels == "native" else None}
        (self.root / "params.yaml").write_text(yaml.safe_dump(params))

    def start(self, seed: int = 1) -> subprocess.Popen:
        command = [sys.executable, "-m", "stages.pretrain", "baseline", str(seed)]
        return subprocess.Popen(
            command,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, seed: int = 1, status: int = 0) -> str:
        for name in OUTPUTS:
            shutil.rmtree(
                self.root / name / f"baseline/seed_{seed}", ignore_errors=True
            )  # as dvc does before it runs a stage
        with self.start(seed) as process:
            said, _ = process.communicate()
        assert process.returncode == status, said
        return said

    def contents(self, seed: int = 1) -> dict[str, bytes]:
        """Return the bytes of everything that the stage has written, but for how long it took."""
        folders = [self.root / name / f"baseline/seed_{seed}" for name in OUTPUTS]
        files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}

    def curve(self, name: str, seed: int = 1) -> list[dict[str, float]]:
        with open(self.root / f"losses/baseline/seed_{seed}/{name}.csv", newline="") as file:
            return [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]

    @property
    def scratch(self) -> Path:
        return self.root / "checkpoints/baseline/.seed_1.scratch"


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[dict[str, bytes], float]:
    """What an undisturbed run writes, and how long it takes."""
    project = Project(tmp_path_factory.mktemp("undisturbed") / "project")
    started = time.monotonic()
    project.run()
    contents = project.contents()
    checkpoints, losses, figures = 3 * 3, 4, 1
    assert len(contents) == checkpoints + losses + figures
    assert not project.scratch.exists()
    return contents, time.monotonic() - started


def test_twenty_kills_at_random_moments_change_no_byte(project, undisturbed):
    """Every second one comes while a state or a checkpoint is being written; killed runs follow one
    another until one ends.
    """
    expected, seconds = undisturbed
    moments = random.Random(0)
    kills = resumed = inside = 0
    for _ in range(5 * KILLS):
        with project.start() as process:
            if kills % 2:
                found = wait_for_a_write(project, process, moments.randrange(8))
                inside += found
            else:
                time.sleep(moments.uniform(0.4, 1.0) * seconds)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
            said, _ = process.communicate()
        resumed += "resumes from step" in said
        assert process.returncode in (0, -signal.SIGKILL), said
        if process.returncode == 0 or kills == KILLS:
            if process.returncode:
                project.run()
            assert project.contents() == expected
            assert not project.scratch.exists()
            for name in OUTPUTS:
                shutil.rmtree(project.root / name)
        if kills == KILLS:
            break
    assert kills == KILLS, "runs ended before they could be killed"
    assert resumed >= 5, "hardly a kill came after a state, so little was shown"
    assert inside >= 5, "hardly a kill came inside of a write"


def wait_for_a_write(project: Project, process: subprocess.Popen, skipped: int) -> bool:
    """Return as soon as a state or checkpoint is half-written for the time after `skipped`, or the
    process has ended.
    """
    last = None  # glob's own, for Path's does not bear that the run removes what it reads
    while process.poll() is None:
        for path in glob("*/*/.step_*.partial", root_dir=project.scratch):
            if path != last:
                last, skipped = path, skipped - 1
            if skipped < 0:
                return True
        time.sleep(0.0005)
    return False


def kill_after(project: Project, least: int) -> None:
    """Kill a run that has written a state of its own at step `least` or later."""

    def states() -> set[Path]:
        found = map(Path, glob("*/states/step_*/SHA256SUMS", root_dir=project.scratch))
        return {path for path in found if int(path.parent.name.removeprefix("step_")) >= least}

    before = states()  # of other work
    with project.start() as process:
        while process.poll() is None and not states() - before:
            time.sleep(0.001)
        assert process.poll() is None, process.communicate()[0]
        os.killpg(process.pid, signal.SIGKILL)


def test_an_abandoned_state_never_leaks_into_another_run(project, tmp_path):
    kill_after(project, 20)
    abandoned = list(project.scratch.iterdir())
    project.params(learning_rate=4.0e-3)
    said = project.run()
    assert "goes on" not in said
    other = Project(tmp_path / "other")
    other.params(learning_rate=4.0e-3)
    other.run()
    assert project.contents() == other.contents()

    # Put where the new run looks, it is told from its own.
    kill_after(project, 20)
    [own] = project.scratch.iterdir()
    assert own.name != abandoned[0].name
    project.params()
    kill_after(project, 10)
    [now] = project.scratch.iterdir()
    assert now.name == abandoned[0].name
    shutil.rmtree(now)
    project.params(learning_rate=4.0e-3)
    kill_after(project, 20)
    project.scratch.joinpath(own.name).rename(now)
    project.params()
    said = project.run()
    assert "belongs to other work" in said
    assert "goes on" not in said


@pytest.fixture
def trained_by_one(project) -> tuple[list, list, set[str]]:
    project.params(
        max_steps=50, checkpoint_steps=[25, 50], batch_rows=8, micro_batch_rows=2, log_every=1
    )
    project.run()
    return project.curve("training"), project.curve("validation"), set(project.contents())


def test_two_processes_agree_with_one_and_write_the_same_files(project, trained_by_one):
    training, validation, files = trained_by_one
    project.params(
        max_steps=50,
        checkpoint_steps=[25, 50],
        batch_rows=8,
        micro_batch_rows=2,
        log_every=1,
        processes=2,
    )
    project.run()
    assert set(project.contents()) == files
    for ours, theirs, column in (
        (training, "training", "train_loss"),
        (validation, "validation", "val_loss"),
    ):
        again = project.curve(theirs)
        assert [row["step"] for row in again] == [row["step"] for row in ours]
        assert [row[column] for row in again] == pytest.approx(
            [row[column] for row in ours], abs=1e-5
        )
    assert training[-1]["train_loss"] < training[0]["train_loss"] - 0.01, (
        "a run that learns nothing would agree with any"
    )


def test_two_processes_go_on_together_to_the_same_bytes(project):
    project.params(processes=2)
    project.run()
    expected = project.contents()
    for name in OUTPUTS:
        shutil.rmtree(project.root / name)
    kill_after(project, 60)
    [step] = re.findall(r"resumes from step (\d+)", project.run())
    assert int(step) >= 60
    assert project.contents() == expected


def test_every_other_way_to_train_goes_on_to_the_same_bytes(project):
    project.run()
    default = project.contents()
    project.params(
        optimizer="muon",
        schedule="wsd",
        mixture={"text": 1.0, "drills": 1.0},
        document_starts="row",
        attention_within_documents=True,
    )
    project.run()
    expected = project.contents()
    for name in OUTPUTS:
        shutil.rmtree(project.root / name)
    kill_after(project, 60)
    [step] = re.findall(r"resumes from step (\d+)", project.run())
    assert int(step) >= 60
    assert project.contents() == expected
    assert expected.keys() == default.keys()
    assert not [name for name in expected if expected[name] == default[name]]


def test_a_dying_process_ends_the_stage_with_its_own_error(project):
    source = project.root / "model/pretraining/loop.py"
    call = "        figures = torch.stack(self._since_log)"
    assert call in source.read_text()
    raising = (
        '        if self._processes.rank == 1:\n            raise PipelineError("the second one has'
        ' no luck")\n'
    )
    source.write_text(source.read_text().replace(call, raising + call))
    project.params(processes=2)
    assert "error: the second one has no luck" in project.run(status=1)
    assert not (project.root / "checkpoints/baseline/seed_1").exists()


def test_seeds_of_weights_and_of_data_are_apart(project):
    short = {"max_steps": 10, "checkpoint_steps": [10], "warmup_steps": 5}
    first_losses = {}
    for name, changes in (
        ("own", {}),
        ("weights held", {"weight_seed": 7}),
        ("data held", {"data_seed": 7}),
    ):
        project.params(seeds=(1, 2), **short, **changes)
        for seed in (1, 2):
            project.run(seed)
        weights, data = (
            [project.curve(curve, seed)[0] for seed in (1, 2)]
            for curve in ("validation", "training")
        )
        first_losses[name] = [
            weights[0]["val_loss"] == weights[1]["val_loss"],
            data[0]["original_bytes"] == data[1]["original_bytes"],
        ]
    assert first_losses == {
        "own": [False, False],
        "weights held": [True, False],
        "data held": [False, True],
    }


def test_timings_are_written_beside_the_outputs(project):
    project.run()
    timings = yaml.safe_load((project.root / "timings/baseline/seed_1/pretrain.json").read_text())
    assert timings["steps"] == 120
    assert timings["tokens_per_second"] > 0
    assert 0 < timings["model_flops_utilization"] < 1
    assert set(timings["seconds"]) == {"training", "validation", "checkpoints", "states"}


@pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU"
)
def test_a_compiled_network_trains_to_the_same_losses_inside_the_seal(project):
    short = {"max_steps": 20, "checkpoint_steps": [20], "log_every": 1, "state_every": 20}
    short["kernels"] = "native"
    project.params(**short)
    project.run()
    plain, files = project.curve("training"), set(project.contents())
    project.params(**short, compile=True)
    project.run()
    assert [row["train_loss"] for row in project.curve("training")] == pytest.approx(
        [row["train_loss"] for row in plain], abs=1e-4
    )
    assert set(project.contents()) == files
