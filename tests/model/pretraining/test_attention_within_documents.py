"""Attention within documents: what a token sees, and that training and validation use it."""

import pytest
import torch
from portable_kernels import installed
from small_objects import random_gpt, write_token_split
from tiny_training import NATIVE, ONE_PROCESS, params

from model.network.gpt import GPTConfig, seen_in_document
from model.numerics.setting import Numerics
from model.pretraining.loop import History, LossNetwork, Training
from model.pretraining.losses import token_losses
from model.pretraining.training_rows import TrainingRows
from model.pretraining.validation import Validation

EOT = 99
NETWORK = GPTConfig(layers=2, heads=2, width=16, context=12, vocab_size=100)
FIRST, SECOND = [7, EOT, 1, 2, 3], [EOT, 4, 5, 6, 8]  # the row begins inside of a document


def test_a_token_sees_itself_and_what_is_before_it_in_its_document():
    seen = seen_in_document(torch.tensor([[7, EOT, 1, EOT]]), EOT)
    assert seen.shape == (1, 1, 4, 4)
    assert seen[0, 0].int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert seen_in_document(torch.tensor([[7, EOT]]), None) is None


def states(tokens: list[int], end_of_text: int | None) -> torch.Tensor:
    rows = torch.tensor([tokens])
    with torch.no_grad():
        return random_gpt(NETWORK).last_hidden_state(rows, seen_in_document(rows, end_of_text))[0]


def test_a_document_is_computed_as_if_it_were_alone():
    before = len(FIRST)
    whole = states(FIRST + SECOND, EOT)
    torch.testing.assert_close(whole[1:before], states([50, *FIRST[1:]], EOT)[1:])
    others = [9, 10, 11, 12, 13]
    torch.testing.assert_close(whole[before:], states(others + SECOND, EOT)[before:])
    everything = states(FIRST + SECOND, None)
    assert not torch.allclose(everything[before:], states(others + SECOND, None)[before:])
    assert not torch.allclose(whole[before:], everything[before:])


def test_a_row_of_one_document_is_computed_as_without_bounds():
    torch.testing.assert_close(states(SECOND, EOT), states(SECOND, None))


def test_portable_kernels_compute_the_same_losses_and_gradients():
    def found() -> list[torch.Tensor]:
        model = random_gpt(NETWORK)
        loss = LossNetwork(model, params(), EOT)(torch.tensor([[*FIRST, *SECOND, 9]]))
        return [loss, *torch.autograd.grad(loss, list(model.parameters()))]

    native = found()
    with installed():
        portable = found()
    for one, other in zip(native, portable, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


class Nowhere:
    def resume(self, model, optimizer) -> History:
        return History()

    def keep_checkpoint(self, step, model) -> None:
        pass

    def keep_state(self, model, optimizer, history) -> None:
        pass


@pytest.mark.parametrize("numerics", [NATIVE, None], ids=["native", "portable"])
def test_training_and_validation_attend_within_documents(tmp_path, numerics: Numerics | None):
    documents = [[EOT, *(token % 50 for token in range(n, n + 4))] for n in range(40)]
    train, val = write_token_split(tmp_path, documents, ["text"] * 20 + ["drills"] * 20)
    rows = torch.from_numpy(TrainingRows(train, 12, 0).rows(0, 4))

    def first_losses(within: bool) -> tuple[float, float]:
        model = random_gpt(NETWORK)
        inputs = rows[:, :-1]
        with torch.no_grad():
            seen = seen_in_document(inputs, EOT if within else None)
            hidden = model.last_hidden_state(inputs, seen).flatten(0, 1)
            expected = token_losses(hidden, model.lm_head.weight, rows[:, 1:].flatten()).mean()
        chosen = params(
            attention_within_documents=within, max_steps=1, checkpoint_steps=[1], warmup_steps=0
        )
        validation = Validation(val, 20, 12, "drills", within)
        training = Training(
            model,
            TrainingRows(train, 12, 0),
            validation,
            chosen,
            numerics or NATIVE._replace(portable=True),
            ONE_PROCESS,
            "test",
        )
        history = training.run(Nowhere())
        assert history.training[0].train_loss == pytest.approx(float(expected), abs=1e-4)
        return history.training[0].train_loss, history.validated[0].val_loss

    if numerics is None:
        with installed():
            within, without = first_losses(True), first_losses(False)
    else:
        within, without = first_losses(True), first_losses(False)
    assert within[0] != pytest.approx(without[0], abs=1e-4)
    assert within[1] != pytest.approx(without[1], abs=1e-4)
