"""Muon: move each matrix by the moving average of its gradients, made nearly orthogonal.

Source: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/), as `torch.optim.Muon`
implements it. torch's own computes the iteration in bfloat16, which has no portable kernels. A step
of matrix X with gradient G, momentum μ, learning rate r and weight decay d:

    M ← μ M + (1 − μ) G
    U = (1 − μ) G + μ M with Nesterov's momentum, else M
    X ← (1 − r d) X − r · rate_factor · orthogonalized(U)
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model.numerics.side_by_side import SideBySide

# The polynomial a x + b x³ + c x⁵ of Jordan et al. Repeated, it takes singular values between 0 and
# 1 to about 0.7 to 1.2. These coefficients are chosen to raise small values fastest: near 0, each
# step multiplies them by 3.4445.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_LEAST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon`, with the iteration computed in `dtype`.

    `threads` computes the updates of several matrices side by side. State per matrix: one
    `momentum_buffer` of its shape, where AdamW keeps two.
    """

    def __init__(
        self,
        matrices: list[nn.Parameter],
        lr: float,
        weight_decay: float,
        momentum: float,
        nesterov: bool,
        ns_steps: int,
        adjustment: str,
        dtype: torch.dtype,
        threads: SideBySide,
    ):
        options = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "adjustment": adjustment,
        }
        super().__init__(matrices, options)
        self._dtype, self._threads = dtype, threads

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move all matrices; `closure` must be None."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if not self.state[matrix]:
                    self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
            self._threads.map(partial(self._move, group), group["params"])

    # Each thread has a gradient mode of its own, so the caller's does not hold here.
    @torch.no_grad()
    def _move(self, group: dict[str, Any], matrix: nn.Parameter) -> None:
        """Move one matrix (rows, columns) as the module's docstring says."""
        gradient, rate, momentum = matrix.grad, group["lr"], group["momentum"]
        assert gradient is not None, "a matrix has no gradient"
        # a.lerp(b, w) is (1 − w) a + w b. All tensors here are (rows, columns).
        mean = self.state[matrix]["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = gradient.lerp(mean, momentum) if group["nesterov"] else mean
        direction = orthogonalized(update.to(self._dtype), group["ns_steps"])
        matrix.mul_(1 - rate * group["weight_decay"])
        matrix.add_(direction, alpha=-rate * rate_factor(group["adjustment"], matrix.shape))


def orthogonalized(x: Tensor, steps: int) -> Tensor:
    """Return a matrix near U @ V.T, where `x` (rows, columns) is U @ S @ V.T.

    The Newton-Schulz iteration in the dtype of `x`. The singular values become about 0.7 to 1.2.
    """
    # With more columns than rows, x xᵀ is the smaller of the two squares.
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    # The Frobenius norm is at least the greatest singular value, so none is above 1 afterwards.
    x = x / x.norm().clamp(min=_LEAST_NORM)
    for _ in range(steps):
        # S = x xᵀ (rows, rows); then x ← a x + (b S + c S²) x, which applies the polynomial to
        # each singular value.
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x.T if is_tall else x


def rate_factor(adjustment: str, shape: torch.Size) -> float:
    """Return the factor of a matrix's learning rate for its shape (rows, columns).

    `original` is Jordan's: sqrt(max(1, rows / columns)). `match_rms_adamw` is
    0.2 × sqrt(max(rows, columns)): updates then have the root mean square of AdamW's usual ones, so
    AdamW's learning rate fits (Liu et al. 2025, arXiv 2502.16982). For a matrix of 3072 × 768 the
    factors are 2 and 11.1.
    """
    rows, columns = shape
    if adjustment == "original":
        return math.sqrt(max(1, rows / columns))
    return 0.2 * math.sqrt(max(rows, columns))
