import math
import shutil

import pytest
import torch
import torch.nn.functional as F

from model.pretraining.losses import loss_and_gradient, mean_loss, token_losses

ROWS, WIDTH, VOCABULARY = 600, 16, 97  # more rows than a block has


@pytest.fixture
def layer() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, generator=generator).requires_grad_()
    weight = torch.randn(VOCABULARY, WIDTH, generator=generator).requires_grad_()
    return hidden, weight, torch.randint(0, VOCABULARY, (ROWS,), generator=generator)


def plain(hidden, weight, targets) -> torch.Tensor:
    return F.cross_entropy(hidden @ weight.T, targets)


def test_losses_are_those_of_whole_logits(layer):
    hidden, weight, targets = layer
    whole = F.cross_entropy(hidden @ weight.T, targets, reduction="none")
    torch.testing.assert_close(token_losses(*layer), whole.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mean_loss(*layer), whole.mean(), rtol=1e-6, atol=1e-6)


def test_gradients_are_those_of_whole_logits_and_scale(layer):
    for ours, theirs in zip(
        torch.autograd.grad(mean_loss(*layer) * 3, layer[:2]),
        torch.autograd.grad(plain(*layer) * 3, layer[:2]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)


def test_large_logits_stay_finite(layer):
    hidden, weight, targets = layer
    loss = mean_loss(hidden * 1e4, weight * 1e2, targets)
    assert torch.isfinite(loss)
    torch.testing.assert_close(loss, plain(hidden * 1e4, weight * 1e2, targets), rtol=1e-5, atol=0)


def test_bfloat16_is_near_float32_and_its_gradient_of_the_weight_is_float32(layer):
    hidden, weight, targets = layer
    exact = torch.autograd.grad(mean_loss(*layer), (hidden, weight))
    loss = mean_loss(hidden.bfloat16(), weight, targets)
    rounded = torch.autograd.grad(loss, (hidden, weight))
    assert loss.dtype == rounded[1].dtype == torch.float32
    torch.testing.assert_close(loss, mean_loss(*layer), rtol=1e-2, atol=0)
    for near, far in zip(rounded, exact, strict=True):
        assert (near - far).norm() < 0.02 * far.norm()


def test_logits_far_below_zero_are_as_good_as_others(layer):
    hidden, weight, targets = layer
    bias = torch.full((ROWS, 1), 20.0)
    low = torch.cat([hidden, bias], 1), torch.cat([weight, torch.full((VOCABULARY, 1), -10.0)], 1)
    torch.testing.assert_close(mean_loss(*low, targets), mean_loss(*layer), rtol=1e-4, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(mean_loss(*low, targets), layer[:2]),
        torch.autograd.grad(plain(*layer), layer[:2]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_number_that_is_none_is_not_hidden(layer, bad):
    hidden, weight, targets = layer
    with torch.no_grad():
        hidden[3, 2] = bad
    assert mean_loss(hidden, weight, targets).isnan()


def test_bfloat16_keeps_the_small_gradients_of_sure_rows(layer):
    """What torch's own autocast does, whose softmax minus one is formed before it is rounded."""
    _, weight, targets = layer
    unit = F.normalize(weight.detach())
    hidden = (16 * unit[targets]).requires_grad_()
    exact = torch.autograd.grad(
        mean_loss(hidden.double(), unit.double().requires_grad_(), targets), hidden
    )[0]
    rounded = torch.autograd.grad(
        mean_loss(hidden.bfloat16(), unit.requires_grad_(), targets), hidden
    )[0]
    assert mean_loss(hidden, unit, targets) < 0.01
    assert (rounded - exact).norm() < 0.1 * exact.norm()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler here")
def test_compiled_the_losses_and_gradients_of_logits_are_the_same(layer):
    hidden, weight, targets = (each.detach() for each in layer)
    logits = (hidden @ weight.T).bfloat16()
    losses, gradient = loss_and_gradient(logits, targets)
    compiled = torch.compile(loss_and_gradient)(logits, targets)
    torch.testing.assert_close(compiled[0], losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(compiled[1], gradient, rtol=1e-2, atol=1e-6)
    torch._dynamo.reset()
    plainly = F.cross_entropy(logits.float(), targets, reduction="none")
    torch.testing.assert_close(losses, plainly, rtol=1e-5, atol=1e-5)
    assert losses.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
