"""GELU and the projection after it as one step that keeps the GELU's input only.

Its output, four times as wide as the network, is a quarter of what a block keeps for the way back; computing it again costs
about a hundredth of a step.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# tanh-GELU is x · sigmoid(x · (_LINEAR + _CUBIC · x²)): Hendrycks and Gimpel 2016, with tanh(u) = 2 sigmoid(2u) − 1.
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = _LINEAR * 0.044715
_BLOCK = 2**18  # numbers that stay in a CPU's cache


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `F.linear(F.gelu(x, approximate="tanh"), weight, bias)` in `x`'s dtype; `x` (…, in), `weight` (out, in)."""
    apply: Callable[..., Tensor] = _GeluLinear.apply
    return apply(x, weight, bias)


class _GeluLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(_gelu(x), weight.to(x.dtype), bias.to(x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        flat, gradient = x.flatten(0, -2), gradient.flatten(0, -2)
        of_x = gradient @ weight.to(x.dtype)
        activation = _gelu_and_gradient(flat, of_x)
        of_weight = gradient.T @ activation
        return of_x.view_as(x), of_weight.to(weight.dtype), gradient.sum(0).to(weight.dtype)


def _gelu(x: Tensor) -> Tensor:
    if not x.is_cpu or x.dtype != torch.float32:
        return F.gelu(x, approximate="tanh")
    # torch's own spends most of its time in tanh; sigmoid is three times as fast.
    result = torch.empty_like(x)
    for part, out in _blocks(x, result):
        torch.mul(part, part, out=out)
        out.mul_(_CUBIC).add_(_LINEAR).mul_(part).sigmoid_().mul_(part)
    return result


def _gelu_and_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Return GELU of `x`, and turn `gradient`, for that, into the one for `x` in place."""
    if not x.is_cpu or x.dtype != torch.float32:
        gradient.copy_(torch.ops.aten.gelu_backward(gradient, x, approximate="tanh"))
        return F.gelu(x, approximate="tanh")
    result = torch.empty_like(x)
    for part, out, into in _blocks(x, result, gradient):
        square = part * part
        sigmoid = (square * _CUBIC).add_(_LINEAR).mul_(part).sigmoid_()
        torch.mul(part, sigmoid, out=out)
        # d/dx = s + x s (1 − s) (_LINEAR + 3 _CUBIC x²)
        slope = square.mul_(3 * _CUBIC).add_(_LINEAR).mul_(out).mul_(1 - sigmoid).add_(sigmoid)
        into.mul_(slope)
    return result


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Return the tensors' parts side by side, as rows of one that is contiguous."""
    flat = [tensor.view(-1) for tensor in tensors]
    return zip(*(tensor.split(_BLOCK) for tensor in flat), strict=True)
