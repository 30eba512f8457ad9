import math

import numpy as np
import pytest
import torch
from portable_kernels import kernels  # noqa: F401
from small_objects import write_token_split
from tiny_training import NATIVE, NETWORK, ONE_PROCESS, PORTABLE, params

from common.errors import PipelineError
from model.network.checkpoints import read_checkpoint
from model.network.gpt import GPT
from model.pretraining.loop import History, Training
from model.pretraining.losses import mean_loss
from model.pretraining.optimizer import make_optimizer
from model.pretraining.schedule import learning_rate_at
from model.pretraining.state import RunStore
from model.pretraining.training_rows import TrainingRows
from model.pretraining.validation import Validation
from model.runtime.torch_setup import require_device
from stages.pretrain import checkpoint_saver

CANARY = torch.randint(
    0, NETWORK.vocab_size, (2, NETWORK.context + 1), generator=torch.Generator().manual_seed(1)
)


@pytest.fixture
def splits(tmp_path):
    documents = [[99, *(token % 50 for token in range(n, n + 12))] for n in range(40)]
    return write_token_split(tmp_path / "tokens", documents, ["text"] * 20 + ["drills"] * 20)


class Kept:
    """A store of checkpoints only."""

    def __init__(self):
        self.saved = {}

    def resume(self, model, optimizer) -> History:
        return History()

    def keep_checkpoint(self, step, model) -> None:
        self.saved[step] = model.lm_head.weight.detach().clone()

    def keep_state(self, model, optimizer, history) -> None:
        pass


def run(splits, numerics=NATIVE, **changes):
    model = GPT(NETWORK).initialize(torch.Generator().manual_seed(0))
    rows = TrainingRows(splits[0], NETWORK.context, seed=0)
    validation = Validation(splits[1], 20, NETWORK.context, "drills")
    store = Kept()
    training = Training(model, rows, validation, params(**changes), numerics, ONE_PROCESS, "test")
    history = training.run(store)
    return model, (history.training, history.validated), store.saved


def test_the_learning_rate_warms_up_and_follows_a_cosine_to_its_floor():
    p = params(
        max_steps=110,
        warmup_steps=10,
        learning_rate=1e-2,
        min_learning_rate=1e-3,
        checkpoint_steps=[110],
    )
    assert learning_rate_at(1, p) == pytest.approx(1e-3)
    assert learning_rate_at(10, p) == pytest.approx(1e-2)
    assert learning_rate_at(60, p) == pytest.approx((1e-2 + 1e-3) / 2)
    assert learning_rate_at(110, p) == pytest.approx(1e-3)


def test_only_matrices_decay():
    decayed, free = make_optimizer(GPT(NETWORK), params(), NATIVE.side_by_side).param_groups
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert all(parameter.dim() == 2 for parameter in decayed["params"])
    assert all(parameter.dim() == 1 for parameter in free["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(GPT(NETWORK).parameters()))


def test_micro_batches_do_not_change_what_is_learned(splits):
    whole, (points, _), _ = run(splits, micro_batch_rows=4)
    parts, (again, _), _ = run(splits, micro_batch_rows=1)
    for a, b in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    assert points[-1].train_loss == pytest.approx(again[-1].train_loss, abs=1e-5)


@pytest.mark.usefixtures("kernels")
def test_with_portable_kernels_no_byte_follows_micro_batches(splits, tmp_path):
    found = []
    for rows in (1, 4):
        model, (_, validated), _ = run(splits, PORTABLE, micro_batch_rows=rows)
        save = checkpoint_saver("x", 1, params(micro_batch_rows=rows), PORTABLE, CANARY)
        (tmp_path / f"{rows}").mkdir()
        save(tmp_path / f"{rows}", 4, model)
        found.append((validated, (tmp_path / f"{rows}/config.json").read_bytes()))
    assert found[0] == found[1]
    # It would follow them: rows have other places among those of a product.
    validation = Validation(splits[1], 20, NETWORK.context, "drills")
    losses = {validation.score(model, rows, ONE_PROCESS, PORTABLE.side_by_side) for rows in (1, 5)}
    assert len(losses) == 2


def test_training_learns_and_repeats_to_the_bit(splits):
    changes = {
        "max_steps": 60,
        "checkpoint_steps": [30, 60],
        "learning_rate": 1e-2,
        "warmup_steps": 5,
    }
    first, (training, validated), saved = run(splits, **changes)
    again, curves, _ = run(splits, **changes)
    assert (training, validated) == curves
    assert all((a == b).all() for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert validated[0].val_loss == pytest.approx(math.log(100), abs=0.1)
    assert validated[-1].val_loss < 3
    assert list(saved) == [30, 60]
    assert (saved[30] != saved[60]).any()


def test_curves_have_a_row_at_every_checkpoint_and_interval(splits):
    _, (training, validated), _ = run(
        splits, max_steps=7, checkpoint_steps=[3, 7], log_every=2, validate_every=4
    )
    assert [point.step for point in training] == [2, 3, 4, 6, 7]
    assert [point.step for point in validated] == [0, 3, 4, 7]
    assert training[-1].tokens == 7 * 4 * 8
    assert training[-1].original_bytes == pytest.approx(2 * 224 * 12 / 13, rel=0.02)


def test_a_loss_that_is_not_finite_stops_training_before_anything_is_saved(splits):
    with pytest.raises(
        PipelineError, match=r"loss is (nan|inf) by step 4; lower pretrain\.learning_rate"
    ):
        run(
            splits,
            learning_rate=1e30,
            gradient_clip=1e30,
            warmup_steps=0,
            log_every=4,
            validate_every=100,
        )


def test_a_network_ruined_by_the_very_step_that_is_saved_is_not_saved(splits):
    """The training loss is of the network before the step; only validation sees what the step made
    of it.
    """
    with pytest.raises(PipelineError, match="loss is nan by step 1"):
        run(
            splits,
            learning_rate=1e30,
            min_learning_rate=1e30,
            gradient_clip=1e30,
            warmup_steps=0,
            max_steps=1,
            checkpoint_steps=[1],
        )


def test_a_device_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(PipelineError, match=r"pretrain\.device: cuda is not available"):
        require_device("pretrain.device", "cuda")


def ignorant() -> GPT:
    """Knows nothing: the same logit for every token."""
    model = GPT(NETWORK)
    with torch.no_grad():
        model.lm_head.weight.zero_()
    return model


def test_uniform_predictions_cost_log_vocab(splits):
    validation = Validation(splits[1], 20, NETWORK.context, "drills")
    loss, text, drills = validation.score(ignorant(), 3, ONE_PROCESS, NATIVE.side_by_side)
    assert loss == pytest.approx(math.log(100))
    # Each document of 13 tokens stands for 24 bytes; the first token of all, of a text document, is
    # nobody's target.
    assert drills == pytest.approx(13 * math.log2(100) / 24)
    assert text == pytest.approx(13 * math.log2(100) / 24, rel=0.02)


def test_bits_per_byte_add_up_to_the_loss(splits):
    validation = Validation(splits[1], 20, NETWORK.context, "drills")
    model = GPT(NETWORK).initialize(torch.Generator().manual_seed(0)).eval()
    loss, text, drills = validation.score(model, 5, ONE_PROCESS, NATIVE.side_by_side)
    bits = (text + drills) * 10 * 24
    assert bits == pytest.approx(loss / math.log(2) * (20 * 13 - 1))


def test_losses_by_document_add_up_to_the_figures(splits):
    validation = Validation(splits[1], 20, NETWORK.context, "drills")
    model = GPT(NETWORK).initialize(torch.Generator().manual_seed(0)).eval()
    nats = validation.nats(model, 5, ONE_PROCESS, NATIVE.side_by_side)
    loss, text, _ = validation.figures(nats)
    rows = validation.by_document(nats)
    assert len(rows) == 20
    assert [row.document for row in rows] == sorted({row.document for row in rows})
    assert math.fsum(row.nats for row in rows) == pytest.approx(loss * (20 * 13 - 1))
    natural = [row for row in rows if row.source != "drills"]
    bits = math.fsum(row.nats for row in natural) / math.log(2)
    assert bits / sum(row.original_bytes for row in natural) == pytest.approx(text)


def test_the_history_ends_with_the_losses_of_the_last_network(splits):
    """Of the network that is saved last, whatever steps were validated before it."""
    model = GPT(NETWORK).initialize(torch.Generator().manual_seed(0))
    rows = TrainingRows(splits[0], NETWORK.context, seed=0)
    validation = Validation(splits[1], 20, NETWORK.context, "drills")
    training = Training(model, rows, validation, params(), NATIVE, ONE_PROCESS, "test")
    history = training.run(Kept())
    nats = validation.nats(model, 4, ONE_PROCESS, NATIVE.side_by_side)
    assert [row.nats for row in history.documents] == pytest.approx(nats.tolist())


def test_a_validation_sample_of_drills_alone_is_refused(tmp_path):
    documents = [[99, *range(n, n + 12)] for n in range(40)]
    _, val = write_token_split(tmp_path / "tokens", documents, ["drills"] * 40)
    with pytest.raises(PipelineError, match="validation documents are drills; raise"):
        Validation(val, 20, NETWORK.context, "drills")


def test_a_run_that_saves_the_same_weights_at_two_steps_stops(tmp_path):
    network = GPT(NETWORK).initialize(torch.Generator().manual_seed(0))
    save = checkpoint_saver("baseline", 1, params(), NATIVE, CANARY)
    keep = RunStore(tmp_path, [30, 60], save, ONE_PROCESS, "test").keep_checkpoint
    keep(30, network)
    with pytest.raises(PipelineError, match="steps 30 and 60 have the same weights"):
        keep(60, network)
    config, _ = read_checkpoint(tmp_path / "checkpoints/step_30")
    assert config.canary_loss == pytest.approx(math.log(NETWORK.vocab_size), rel=0.05), (
        "a fresh network knows nothing"
    )
    assert not (tmp_path / "checkpoints/step_60").exists()


def test_the_defaults_are_a_plain_loop_to_the_bit(splits):
    """AdamW, a cosine, all documents end to end: written out with torch alone."""
    rows = TrainingRows(splits[0], NETWORK.context, seed=0)
    order = np.random.default_rng([0, 0, 0]).permutation(40)
    documents, _ = splits[0].read(np.arange(40))
    stream = np.concatenate([documents[number] for number in order]).astype(np.int64)
    assert (rows.rows(0, 16)[:, :-1].reshape(-1) == stream[: 16 * NETWORK.context]).all()

    reference = GPT(NETWORK).initialize(torch.Generator().manual_seed(0))
    parts = [
        [each for each in reference.parameters() if (each.dim() > 1) == many]
        for many in (True, False)
    ]
    optimizer = torch.optim.AdamW(
        [{"params": parts[0], "weight_decay": 0.1}, {"params": parts[1], "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        fused=True,
    )
    batches = torch.from_numpy(rows.rows(0, 24)).split(4)
    for step, batch in enumerate(batches, 1):
        rate = 1e-3 * step / 2 if step <= 2 else None
        if rate is None:
            rate = 1e-4 + 0.5 * (1 + math.cos(math.pi * ((step - 2) / 4))) * (1e-3 - 1e-4)
        for group in optimizer.param_groups:
            group["lr"] = rate
        hidden = reference.last_hidden_state(batch[:, :-1]).flatten(0, 1)
        mean_loss(hidden, reference.lm_head.weight, batch[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(parts[0] + parts[1], 1.0, foreach=True)
        optimizer.step()
        optimizer.zero_grad()
    ours, _, _ = run(splits, max_steps=6, checkpoint_steps=[6], warmup_steps=2, micro_batch_rows=4)
    for one, other in zip(ours.parameters(), reference.parameters(), strict=True):
        assert torch.equal(one, other)
