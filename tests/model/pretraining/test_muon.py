"""Muon against torch's own, and against its formulas in numpy's float64."""

import math

import numpy as np
import pytest
import torch
from portable_kernels import kernels  # noqa: F401
from tiny_training import NATIVE, NETWORK, params

from model.network.gpt import GPT
from model.numerics.side_by_side import SideBySide
from model.pretraining.muon import Muon, orthogonalized
from model.pretraining.optimizer import make_optimizer

SHAPES = [(12, 4), (4, 4), (4, 12), (33, 17)]
OPTIONS = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.9, "ns_steps": 5}


def matrices(seed: int) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def ours(moved, dtype, threads: int = 1, **changes) -> Muon:
    options = {**OPTIONS, "nesterov": True, "adjustment": "original", **changes}
    return Muon(moved, **options, dtype=dtype, threads=SideBySide(threads))


def trained(moved, optimizer, steps: int = 5) -> list[torch.Tensor]:
    """Take steps on gradients that depend on the step and on the matrices."""
    for step in range(steps):
        for matrix, pull in zip(moved, matrices(100 + step), strict=True):
            matrix.grad = (matrix - pull).detach()
        optimizer.step()
    return [matrix.detach().clone() for matrix in moved]


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjustment", ["original", "match_rms_adamw"])
def test_in_bfloat16_it_is_torchs_to_the_bit(nesterov, adjustment):
    mine, theirs = matrices(0), matrices(0)
    reference = torch.optim.Muon(theirs, **OPTIONS, nesterov=nesterov, adjust_lr_fn=adjustment)
    found = trained(mine, ours(mine, torch.bfloat16, nesterov=nesterov, adjustment=adjustment))
    for one, other in zip(found, trained(theirs, reference), strict=True):
        assert torch.equal(one, other)


def test_in_float32_it_is_near_torchs():
    """bfloat16 has eight bits: five steps of 0.05 differ by a few thousandths."""
    mine, theirs = matrices(0), matrices(0)
    found = trained(mine, ours(mine, torch.float32))
    wanted = trained(theirs, torch.optim.Muon(theirs, **OPTIONS))
    for one, other, start in zip(found, wanted, matrices(0), strict=True):
        assert (one - other).norm() < 0.02 * (other - start).norm()


def written_out(shape_index: int, nesterov: bool, adjustment: str) -> np.ndarray:
    """Muon of one matrix in float64, after the algorithm in torch's documentation."""
    weight = matrices(0)[shape_index].detach().double().numpy()
    rows, columns = weight.shape
    mean = np.zeros_like(weight)
    for step in range(5):
        gradient = weight - matrices(100 + step)[shape_index].detach().double().numpy()
        mean = 0.9 * mean + 0.1 * gradient
        x = 0.1 * gradient + 0.9 * mean if nesterov else mean
        x = x / np.sqrt((x**2).sum())
        for _ in range(5):
            x = 3.4445 * x - 4.7750 * (x @ x.T) @ x + 2.0315 * (x @ x.T) @ (x @ x.T) @ x
        factor = (
            math.sqrt(max(1, rows / columns))
            if adjustment == "original"
            else 0.2 * math.sqrt(max(rows, columns))
        )
        weight = weight - 0.05 * 0.1 * weight - 0.05 * factor * x
    return weight


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjustment", ["original", "match_rms_adamw"])
def test_with_portable_kernels_it_is_what_its_formulas_say(nesterov, adjustment):
    mine = matrices(0)
    found = trained(mine, ours(mine, torch.float32, nesterov=nesterov, adjustment=adjustment))
    for index, matrix in enumerate(found):
        wanted = torch.from_numpy(written_out(index, nesterov, adjustment)).float()
        torch.testing.assert_close(matrix, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("kernels")
def test_the_bytes_are_the_same_for_any_number_of_threads():
    found = []
    for threads in (1, 2, 3):
        mine = matrices(0)
        found.append(trained(mine, ours(mine, torch.float32, threads)))
    for others in zip(*found, strict=True):
        assert all(torch.equal(others[0], other) for other in others[1:])


@pytest.mark.parametrize("shape", SHAPES)
def test_an_update_has_nearly_equal_singular_values(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    found = torch.linalg.svdvals(orthogonalized(x, 5))
    assert found.min() > 0.6
    assert found.max() < 1.25
    assert torch.equal(x, before), "the argument may be the momentum"
    assert orthogonalized(torch.zeros(shape), 5).eq(0).all()


def test_muon_has_the_matrices_inside_blocks_and_adamw_the_rest():
    model = GPT(NETWORK)
    chosen = params(optimizer="muon", learning_rate=1e-3, muon_learning_rate=0.02)
    matrices, decayed, free = make_optimizer(model, chosen, NATIVE.side_by_side).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert [names[id(each)] for each in matrices["params"]] == [
        f"transformer.h.0.{part}.weight"
        for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    ]
    assert [names[id(each)] for each in decayed["params"]] == [
        "transformer.wte.weight",
        "transformer.wpe.weight",
    ]
    assert all(each.dim() == 1 for each in free["params"])
    assert len(names) == sum(len(group["params"]) for group in (matrices, decayed, free))
    assert [group["weight_decay"] for group in (matrices, decayed, free)] == [0.1, 0.1, 0.0]


@pytest.mark.parametrize(("peak", "expected"), [(0.02, 0.01), (None, 5e-4)])
def test_muons_learning_rate_follows_the_schedule_to_its_own_peak(peak, expected):
    chosen = params(optimizer="muon", learning_rate=1e-3, muon_learning_rate=peak)
    optimizer = make_optimizer(GPT(NETWORK), chosen, NATIVE.side_by_side)
    optimizer.set_learning_rate(5e-4)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
        [expected, 5e-4, 5e-4]
    )
