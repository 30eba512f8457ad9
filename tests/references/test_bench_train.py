"""Our training step beside two others: the plain loop of benchmarks/plain_loop.py and transformers'
Trainer.
"""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from benchmarks.train import ARMS, Task, largest_difference, make_task

STEPS = 10


def losses_of(arm: str, task: Task) -> list[float]:
    losses: list[float] = []

    def after_step(loss: Tensor | None) -> bool:
        if loss is not None:
            losses.append(loss.item())
        return len(losses) < STEPS

    ARMS[arm](task, after_step)
    return losses


@pytest.fixture(scope="module")
def task() -> Task:
    micro = make_task("micro", STEPS, torch.get_num_threads())
    # AdamW does not see a gradient's scale until its epsilon counts: clipped so far, clipping shows
    # in the losses.
    return micro._replace(params=micro.params.model_copy(update={"gradient_clip": 1e-5}))


@pytest.fixture(scope="module")
def ours(task) -> Iterator[list[float]]:
    yield losses_of("ours", task)
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("arm", [arm for arm in ARMS if arm != "ours"])
def test_our_training_has_the_losses_of_other_implementations(arm, task, ours):
    assert task.accumulation == 2
    assert losses_of(arm, task) == pytest.approx(ours, abs=1e-4)
    assert ours[-1] < ours[0] - 0.1


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
