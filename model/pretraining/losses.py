"""The output layer and the cross-entropy in one operation, a few hundred rows at a time.

At GPT-2's size the logits of a micro batch of 4 × 1,024 tokens take 0.8 GB, and autograd would hold
them three times. Here each block of logits is turned into its part of both gradients at once: the
same three products, and no logits kept.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Blocks of logits that stay in a CPU's cache, and that keep a GPU busy.
_ROWS_ON_CPU, _ROWS_ON_GPU = 512, 4096
# Between these limits, a row's sum of exponentials and what is computed from it stay far from
# float32's limits.
_SAFE_TOTALS = (1e-25, 1e25)


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return each target's negative log-likelihood in nats, float32 (rows,), without a gradient.

    `hidden` (rows, width), `weight` (vocab, width) of the output layer, `targets` (rows,) int64.
    """
    with torch.no_grad():
        return torch.cat(
            [_exponentials(hidden[rows], weight, targets[rows])[0] for rows in _blocks(hidden)]
        )


def mean_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of `token_losses`, with gradients for `hidden` and `weight`.

    Products are computed in `hidden`'s dtype.
    """
    apply: Callable[..., Tensor] = _MeanLoss.apply
    return apply(hidden, weight, targets)


class _MeanLoss(torch.autograd.Function):
    """The gradient of a row's loss for its logits is softmax minus one at the target.

    In float32, the softmax's denominator is applied to the narrow side of the products, and the
    target's part is added by rows. With fewer bits, that difference would be lost where the network
    is sure, so it is computed before rounding.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        lower = weight.to(hidden.dtype)
        of_hidden = torch.empty_like(hidden)
        # Products in float32 are written over what is there.
        exact = hidden.dtype == weight.dtype
        of_weight = torch.empty_like(weight) if exact else torch.zeros_like(weight)
        losses = []
        for rows in _blocks(hidden):
            loss, exponentials, total = _exponentials(hidden[rows], lower, targets[rows])
            losses.append(loss)
            if exact:
                share = (1 / total)[:, None]
                of_hidden[rows] = (exponentials.T @ weight) * share - weight[targets[rows]]
                part = hidden[rows] * share
                of_weight.addmm_(exponentials, part, beta=rows.start > 0)
            else:
                gradient = _lowered(exponentials.mul_(1 / total), targets[rows], hidden.dtype)
                torch.mm(gradient.T, lower, out=of_hidden[rows])
                of_weight += gradient @ hidden[rows]  # summed in float32
        if exact:
            of_weight.index_add_(0, targets, hidden, alpha=-1)
        ctx.gradients = of_hidden, of_weight
        return torch.cat(losses).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        of_hidden, of_weight = ctx.gradients
        ctx.gradients = None  # they are scaled in place
        scale = scale / len(of_hidden)
        return of_hidden.mul_(scale), of_weight.mul_(scale), None


def _exponentials(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses (rows,), exponentials of the logits (vocab, rows), and their sums (rows,).

    All are float32; the exponentials and their sums have any common scale in a row. The product is
    transposed, because MKL then computes it 1.6 times as fast for a narrow network.

    Logits are taken times log2(e), so that exp(x) is 2^logit: torch computes powers of two itself,
    and twice as fast as MKL computes exp on AMD.

    Finding and subtracting the greatest logit takes two passes over the logits. A CPU does it only
    if the sums are out of range, which those of trained networks are not. A GPU always does it,
    since it would have to wait for the sums.
    """
    logits = _logits(hidden, weight)
    chosen = logits.gather(0, targets[None])[0]
    if hidden.is_cpu:
        exponentials = logits.exp2_()
        total = exponentials.sum(0)
        least, greatest = total.aminmax()
        if _SAFE_TOTALS[0] < least.item() and greatest.item() < _SAFE_TOTALS[1]:
            return total.log() - chosen * math.log(2), exponentials, total
        logits = _logits(hidden, weight)
    greatest = logits.amax(0)
    exponentials = logits.sub_(greatest).exp2_()
    total = exponentials.sum(0)
    return total.log() - (chosen - greatest) * math.log(2), exponentials, total


def _lowered(probabilities: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    chosen = targets[None]
    return probabilities.scatter_(0, chosen, probabilities.gather(0, chosen) - 1).to(dtype)


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return logits (vocab, rows), float32 or more, times log2(e)."""
    if torch.finfo(hidden.dtype).bits >= 32:
        return weight @ (hidden * math.log2(math.e)).T
    return (weight @ hidden.T).to(torch.float32).mul_(math.log2(math.e))


def _blocks(hidden: Tensor) -> list[slice]:
    size = _ROWS_ON_CPU if hidden.is_cpu else _ROWS_ON_GPU
    return [slice(start, min(start + size, len(hidden))) for start in range(0, len(hidden), size)]
