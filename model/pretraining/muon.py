"""Muon: a matrix moves by its gradients' mean, made nearly orthogonal.

Source: Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/), as `torch.optim.Muon` has
it. That one computes the iteration in bfloat16, for which there are no portable kernels.
"""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model.numerics.side_by_side import SideBySide

# The polynomial a x + b x³ + c x⁵. Its iteration takes singular values between 0 and 1 to about 0.7
# to 1.2, the small ones as fast as can be.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_LEAST_NORM = 1e-7


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon`, with the iteration computed in `dtype`.

    `threads` computes the updates of several matrices side by side.
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

    # A thread has a gradient mode of its own.
    @torch.no_grad()
    def _move(self, group: dict[str, Any], matrix: nn.Parameter) -> None:
        gradient, rate, momentum = matrix.grad, group["lr"], group["momentum"]
        assert gradient is not None, "a matrix has no gradient"
        mean = self.state[matrix]["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = gradient.lerp(mean, momentum) if group["nesterov"] else mean
        direction = orthogonalized(update.to(self._dtype), group["ns_steps"])
        matrix.mul_(1 - rate * group["weight_decay"])
        matrix.add_(direction, alpha=-rate * rate_factor(group["adjustment"], matrix.shape))


def orthogonalized(x: Tensor, steps: int) -> Tensor:
    """Return a matrix near U @ V.T, where `x` (rows, columns) is U @ S @ V.T.

    Newton and Schulz's iteration in the dtype of `x`; S becomes numbers from about 0.7 to 1.2.
    """
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=_LEAST_NORM)  # no singular value is above 1
    for _ in range(steps):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return x.T if is_tall else x


def rate_factor(adjustment: str, shape: torch.Size) -> float:
    """Return what a matrix's learning rate is multiplied by, for its shape (rows, columns).

    `original` is Jordan's. `match_rms_adamw` gives updates the root mean square of AdamW's usual
    ones, so that AdamW's learning rate fits (Liu et al. 2025, arXiv 2502.16982).
    """
    rows, columns = shape
    if adjustment == "original":
        return math.sqrt(max(1, rows / columns))
    return 0.2 * math.sqrt(max(rows, columns))
