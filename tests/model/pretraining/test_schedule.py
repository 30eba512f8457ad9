"""Learning rates against torch's and transformers' schedules, and what a plateau is for."""

from itertools import pairwise

import pytest
import torch
import transformers
from small_objects import write_token_split
from tiny_training import NATIVE, NETWORK, ONE_PROCESS, params
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, LinearLR, SequentialLR

from model.network.gpt import GPT
from model.pretraining.loop import History, Training
from model.pretraining.schedule import learning_rate_at
from model.pretraining.training_rows import TrainingRows
from model.pretraining.validation import Validation

STEPS, WARMUP, DECAY, PEAK = 110, 10, 25, 1e-2


def rates(schedule: str, least: float, **changes) -> list[float]:
    """Return the learning rate of each step from the first on."""
    chosen = {
        "max_steps": STEPS,
        "checkpoint_steps": [STEPS],
        "warmup_steps": WARMUP,
        "decay_steps": DECAY,
        "learning_rate": PEAK,
        "min_learning_rate": least,
        **changes,
    }
    p = params(schedule=schedule, **chosen)
    return [learning_rate_at(step, p) for step in range(1, p.max_steps + 1)]


def theirs(make) -> list[float]:
    """Return the rates of a scheduler after each step: its first one, 0, is of no step here."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = make(optimizer)
    found = []
    for _ in range(STEPS):
        optimizer.step()
        scheduler.step()
        found.append(scheduler.get_last_lr()[0])
    return found


def test_cosine_is_that_of_transformers():
    for least in (0.0, 1e-3):
        wanted = theirs(
            lambda optimizer, least=least: transformers.get_cosine_with_min_lr_schedule_with_warmup(
                optimizer, WARMUP, STEPS, min_lr=least
            )
        )
        assert rates("cosine", least) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_linear_is_that_of_transformers_and_of_torch():
    wanted = theirs(
        lambda optimizer: transformers.get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    )
    assert rates("linear", 0.0) == pytest.approx(wanted, rel=1e-9, abs=1e-12)

    def to_a_floor(optimizer) -> SequentialLR:
        parts = [
            LambdaLR(optimizer, lambda step: step / WARMUP),
            LinearLR(optimizer, 1.0, 0.1, total_iters=STEPS - WARMUP),
        ]
        return SequentialLR(optimizer, parts, [WARMUP])

    assert rates("linear", 1e-3) == pytest.approx(theirs(to_a_floor), rel=1e-6)


def test_wsd_is_that_of_transformers_and_of_torch():
    wanted = theirs(
        lambda optimizer: transformers.get_wsd_schedule(
            optimizer, WARMUP, DECAY, num_training_steps=STEPS, decay_type="linear"
        )
    )
    assert rates("wsd", 0.0) == pytest.approx(wanted, rel=1e-9, abs=1e-12)

    def to_a_floor(optimizer) -> SequentialLR:
        parts = [
            LambdaLR(optimizer, lambda step: step / WARMUP),
            ConstantLR(optimizer, 1.0, 0),
            LinearLR(optimizer, 1.0, 0.1, total_iters=DECAY),
        ]
        return SequentialLR(optimizer, parts, [WARMUP, STEPS - DECAY])

    assert rates("wsd", 1e-3) == pytest.approx(theirs(to_a_floor), rel=1e-6)


def test_wsd_that_never_stays_is_linear():
    assert rates("wsd", 1e-3, decay_steps=STEPS - WARMUP) == rates("linear", 1e-3)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_rates_rise_then_fall_to_the_least(schedule):
    found = rates(schedule, 1e-3)
    assert found[WARMUP - 1] == max(found) == PEAK
    assert found[-1] == pytest.approx(1e-3)
    assert all(one < other for one, other in pairwise(found[:WARMUP]))
    assert all(one >= other for one, other in pairwise(found[WARMUP:]))


class Kept:
    """A store of checkpoints, as bytes."""

    def __init__(self):
        self.saved: dict[int, list[bytes]] = {}

    def resume(self, model, optimizer) -> History:
        return History()

    def keep_checkpoint(self, step, model) -> None:
        self.saved[step] = [value.numpy().tobytes() for value in model.state_dict().values()]

    def keep_state(self, model, optimizer, history) -> None:
        pass


def test_a_checkpoint_of_the_plateau_is_one_of_the_shorter_run_that_decays_from_it(tmp_path):
    """So a run with a smaller max_steps decays any checkpoint of the stable phase."""
    documents = [[99, *(token % 50 for token in range(n, n + 12))] for n in range(40)]
    train, val = write_token_split(tmp_path, documents, ["text"] * 20 + ["drills"] * 20)

    def saved(schedule: str, max_steps: int) -> dict[int, list[bytes]]:
        store = Kept()
        training = Training(
            GPT(NETWORK).initialize(torch.Generator().manual_seed(0)),
            TrainingRows(train, NETWORK.context, seed=0),
            Validation(val, 20, NETWORK.context, "drills"),
            params(
                schedule=schedule,
                decay_steps=4,
                max_steps=max_steps,
                checkpoint_steps=[4, 8, max_steps],
            ),
            NATIVE,
            ONE_PROCESS,
            "test",
        )
        training.run(store)
        return store.saved

    long, short = saved("wsd", 20), saved("wsd", 12)
    assert long[4] == short[4]
    assert long[8] == short[8] != short[12]  # the shorter one begins to decay here
    long, short = saved("cosine", 20), saved("cosine", 12)
    assert long[4] != short[4]


def test_a_plateau_that_leaves_no_room_for_its_decay_is_refused():
    with pytest.raises(ValueError, match=r"warmup_steps \+ decay_steps \(10 \+ 101\) must not exc"):
        rates("wsd", 0.0, decay_steps=101)
    assert rates("cosine", 0.0, decay_steps=101), "only wsd uses it"
