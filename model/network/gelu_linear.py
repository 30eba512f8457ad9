"""GELU and the projection after it as one operation that keeps only the GELU's input.

The GELU's output is four times as wide as the network, a quarter of what a block keeps for the
backward pass. Computing it again costs about a hundredth of a step.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# Hendrycks and Gimpel 2016 define tanh-GELU as
#     x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))).
# With tanh(u) = 2 sigmoid(2u) − 1 this is x · sigmoid(x · (_LINEAR + _CUBIC · x²)).
_LINEAR = 2 * math.sqrt(2 / math.pi)
_CUBIC = _LINEAR * 0.044715
# Numbers at a time: 1 MB of float32, which stays in a CPU's cache between the operations.
_BLOCK = 2**18


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return `F.linear(F.gelu(x, approximate="tanh"), weight, bias)` in `x`'s dtype.

    `x` (…, in), `weight` (out, in), `bias` (out,).
    """
    apply: Callable[..., Tensor] = _GeluLinear.apply
    return apply(x, weight, bias)


class _GeluLinear(torch.autograd.Function):
    """Keep `x` alone for the backward pass, which computes GELU(x) again.

    With y = GELU(x) Wᵀ + b and G = dL/dy, after flattening to rows:
        dL/dGELU = G W      dL/dx = dL/dGELU · GELU'(x)      dL/dW = Gᵀ GELU(x)      dL/db = Σ G
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(_gelu(x), weight.to(x.dtype), bias.to(x.dtype))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # x (…, in), weight (out, in), gradient (…, out).
        x, weight = ctx.saved_tensors
        # (rows, in) and (rows, out): leading dimensions are joined.
        flat, gradient = x.flatten(0, -2), gradient.flatten(0, -2)
        # (rows, in): dL/dGELU, which the next line turns into dL/dx in place.
        of_x = gradient @ weight.to(x.dtype)
        activation = _gelu_and_gradient(flat, of_x)
        # (out, in)
        of_weight = gradient.T @ activation
        return of_x.view_as(x), of_weight.to(weight.dtype), gradient.sum(0).to(weight.dtype)


def _gelu(x: Tensor) -> Tensor:
    """Return tanh-GELU of `x`, in its shape and dtype."""
    if not x.is_cpu or x.dtype != torch.float32:
        return F.gelu(x, approximate="tanh")
    # torch's own spends most of its time in tanh; sigmoid is three times as fast.
    result = torch.empty_like(x)
    for part, out in _blocks(x, result):
        # out = x², then x · sigmoid(x · (_LINEAR + _CUBIC · x²)), in the memory of the result.
        torch.mul(part, part, out=out)
        out.mul_(_CUBIC).add_(_LINEAR).mul_(part).sigmoid_().mul_(part)
    return result


def _gelu_and_gradient(x: Tensor, gradient: Tensor) -> Tensor:
    """Return GELU of `x`; turn `gradient`, dL/dGELU, into dL/dx in place.

    Both are (rows, in).
    """
    if not x.is_cpu or x.dtype != torch.float32:
        gradient.copy_(torch.ops.aten.gelu_backward(gradient, x, approximate="tanh"))
        return F.gelu(x, approximate="tanh")
    result = torch.empty_like(x)
    for part, out, into in _blocks(x, result, gradient):
        square = part * part
        sigmoid = (square * _CUBIC).add_(_LINEAR).mul_(part).sigmoid_()
        torch.mul(part, sigmoid, out=out)
        # With s = sigmoid(…) and out = x s:
        #     GELU'(x) = s + x s (1 − s) (_LINEAR + 3 _CUBIC x²)
        slope = square.mul_(3 * _CUBIC).add_(_LINEAR).mul_(out).mul_(1 - sigmoid).add_(sigmoid)
        into.mul_(slope)
    return result


def _blocks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield blocks of the tensors in step: `_BLOCK` numbers of each, as views.

    All have the same number of elements and are contiguous.
    """
    flat = [tensor.view(-1) for tensor in tensors]
    return zip(*(tensor.split(_BLOCK) for tensor in flat), strict=True)
