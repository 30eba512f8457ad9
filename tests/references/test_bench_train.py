"""Our training step beside two others: the plain loop of benchmarks/plain_loop.py and transformers'
Trainer.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from repository import REPOSITORY
from torch import Tensor

from benchmarks.train import ARMS, NATIVE, Task, environment_of, largest_difference, make_task

STEPS = 10


def losses_of(arm: str, task: Task) -> list[float]:
    losses: list[float] = []

    def after_step(loss: Tensor | None) -> bool:
        if loss is not None:
            losses.append(loss.item())
        return len(losses) < STEPS

    ARMS[arm](task, after_step)
    return losses


def micro_task() -> Task:
    micro = make_task("micro", STEPS, torch.get_num_threads())
    # AdamW does not see a gradient's scale until its epsilon counts: clipped so far, clipping shows
    # in the losses.
    return micro._replace(params=micro.params.model_copy(update={"gradient_clip": 1e-5}))


@pytest.fixture(scope="module")
def task() -> Task:
    return micro_task()


@pytest.fixture(scope="module")
def ours(task) -> Iterator[list[float]]:
    yield losses_of(NATIVE, task)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm not in ("ours", NATIVE)])
def test_our_training_has_the_losses_of_other_implementations(arm, task, ours):
    assert task.accumulation == 2
    assert losses_of(arm, task) == pytest.approx(ours, abs=1e-4)
    assert ours[-1] < ours[0] - 0.1


# Portable kernels take the place of torch's in a whole process.
PORTABLE = """
import json
import test_bench_train as here
print(json.dumps(here.losses_of("ours", here.micro_task())))
"""


def test_portable_kernels_have_the_losses_of_native_ones(ours):
    paths = (REPOSITORY, REPOSITORY / "tests/helpers", Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", PORTABLE],
        cwd=REPOSITORY,
        env={**environment_of("ours"), "PYTHONPATH": ":".join(map(str, paths))},
        capture_output=True,
        text=True,
        check=True,
    )
    losses = json.loads(done.stdout)
    assert losses == pytest.approx(ours, abs=1e-4)
    assert losses != ours, "these are native kernels' losses"


@pytest.mark.parametrize(
    "setting",
    [
        {"weight_decay": 5.0},
        {"beta1": 0.5},
        {"beta2": 0.5},
        {"gradient_clip": 1e-4},
        {"learning_rate": 4e-3},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_the_benchmark_stops_when_one_of_them_trains_otherwise(setting, task, ours):
    other = losses_of("plain", task._replace(params=task.params.model_copy(update=setting)))
    with pytest.raises(SystemExit, match="losses after the same steps differ"):
        largest_difference({"ours": {"loss": ours[-1]}, "plain": {"loss": other[-1]}})
