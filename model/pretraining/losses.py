"""The output layer and the cross-entropy in one operation, a few hundred rows at a time.

At GPT-2's size the logits of a micro batch of 4 × 1,024 tokens take 0.8 GB, and autograd would hold
them three times. Here each block of logits becomes its part of both gradients at once. That takes
the same three products and keeps no logits. For a block of rows, with L the sum of its losses:

    logits Z = W Hᵀ     P = softmax(Z)     D = P − one-hot(targets)     all (vocab, rows)
    dL/dH = Dᵀ W (rows, width)     dL/dW = D H (vocab, width)

With fewer bits than float32, Z, P and D are stored transposed, (rows, vocab).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Rows in a block: few enough for a CPU's cache, enough to keep a GPU busy.
_ROWS_ON_CPU, _ROWS_ON_GPU = 512, 4096
# Sums of exponentials between these limits, and what is computed from them, stay far from float32's
# limits of about 1e-38 and 3e38.
_SAFE_TOTALS = (1e-25, 1e25)


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return each target's negative log-likelihood in nats, float32 (rows,), without a gradient.

    `hidden` (rows, width), `weight` (vocab, width) of the output layer, `targets` (rows,) int64.
    """
    with torch.no_grad():
        return torch.cat(
            [_exponentials(hidden[rows], weight, targets[rows])[0] for rows in _blocks(hidden)]
        )


# Maps logits (rows, vocab) and targets (rows,) int64 to losses (rows,) float32 and their gradients
# for the logits (rows, vocab), in the dtype of the logits.
OfLogits = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def loss_and_gradient(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return losses and gradients as `OfLogits` describes, computed in float32 and rounded last.

    One kernel if it is compiled. Eagerly, it takes about ten passes over the logits: at GPT-2's
    size half a second for a step of 524,288 tokens on an H100, computed from its memory's
    bandwidth.
    """
    # (rows, vocab)
    exact = logits.float()
    # (rows, 1)
    greatest = exact.amax(1, keepdim=True)
    # (rows, vocab)
    exponentials = (exact - greatest).exp()
    # (rows, 1)
    total = exponentials.sum(1, keepdim=True)
    chosen = exact.gather(1, targets[:, None])
    losses = total.log() - (chosen - greatest)
    # (rows, vocab): a comparison instead of a scatter, which deterministic kernels sort.
    is_target = torch.arange(logits.shape[1], device=logits.device) == targets[:, None]
    gradient = exponentials / total - is_target.float()
    return losses[:, 0], gradient.to(logits.dtype)


def mean_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, of_logits: OfLogits = loss_and_gradient
) -> Tensor:
    """Return the mean of `token_losses`, a scalar with gradients for `hidden` and `weight`.

    Products are computed in the dtype of `hidden`. If it has fewer bits than `weight`, `of_logits`
    computes what lies between them: `loss_and_gradient`, or the same compiled.
    """
    apply: Callable[..., Tensor] = _MeanLoss.apply
    return apply(hidden, weight, targets, of_logits)


class _MeanLoss(torch.autograd.Function):
    """The mean loss; the forward pass already computes both gradients.

    The gradient of a row's loss for its logits is softmax minus one at the target. With E the
    exponentials, t their sum in a row, and p = E / t:

    - In float32, 1 / t multiplies the narrow side of the products, width numbers a row instead of
      vocab, and the one at the target is subtracted as a row of `weight` or of `hidden`.
    - With fewer bits, p − 1 at the target would round to zero where the network is sure. So
      `of_logits` computes it in float32 and rounds it afterwards.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, of_logits: OfLogits
    ) -> Tensor:
        # hidden (rows of all blocks, width), weight (vocab, width), targets (rows of all blocks,).
        lower = weight.to(hidden.dtype)
        of_hidden = torch.empty_like(hidden)
        # In float32 the first block's product overwrites `of_weight` (beta is 0), so the memory
        # need not be zeroed.
        exact = hidden.dtype == weight.dtype
        of_weight = torch.empty_like(weight) if exact else torch.zeros_like(weight)
        losses = []
        for rows in _blocks(hidden):
            if exact:
                # (rows,), (vocab, rows), (rows,)
                loss, exponentials, total = _exponentials(hidden[rows], lower, targets[rows])
                # (rows, 1)
                share = (1 / total)[:, None]
                of_hidden[rows] = (exponentials.T @ weight) * share - weight[targets[rows]]
                # Column r of E times row r of `hidden`, over t: that row's part of dL/dW.
                part = hidden[rows] * share
                of_weight.addmm_(exponentials, part, beta=rows.start > 0)
            else:
                # (rows,), and (rows, vocab) in the lower dtype
                loss, gradient = of_logits(hidden[rows] @ lower.T, targets[rows])
                torch.mm(gradient, lower, out=of_hidden[rows])
                # Each block's product has the lower dtype; blocks are summed in float32.
                of_weight += gradient.T @ hidden[rows]
            losses.append(loss)
        if exact:
            # The one at each target: subtract the row's hidden state from the target's row.
            of_weight.index_add_(0, targets, hidden, alpha=-1)
        ctx.gradients = of_hidden, of_weight
        return torch.cat(losses).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, None, None]:
        of_hidden, of_weight = ctx.gradients
        # They are scaled in place, so a second backward pass would be wrong.
        ctx.gradients = None
        # The mean divides by the number of rows.
        scale = scale / len(of_hidden)
        return of_hidden.mul_(scale), of_weight.mul_(scale), None, None


def _exponentials(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses (rows,), exponentials of the logits (vocab, rows), and their sums (rows,).

    All are float32. In each row, the exponentials and their sum share one factor of any size, which
    cancels in their quotient. The product is transposed, because MKL then computes it 1.6 times as
    fast for a narrow network.

    Logits are multiplied by log2(e), so exp(x) is 2^logit: torch computes powers of two with code
    of its own, twice as fast as MKL computes exp on AMD.

    Finding and subtracting the greatest logit takes two passes over the logits. A CPU does it only
    if a sum is out of range, which does not happen with trained networks. A GPU always does it,
    since checking the sums would wait for the device.
    """
    logits = _logits(hidden, weight)
    # (rows,): the target's logit, in bits.
    chosen = logits.gather(0, targets[None])[0]
    if hidden.is_cpu:
        exponentials = logits.exp2_()
        total = exponentials.sum(0)
        least, greatest = total.aminmax()
        if _SAFE_TOTALS[0] < least.item() and greatest.item() < _SAFE_TOTALS[1]:
            # −ln(2^chosen / total), in nats.
            return total.log() - chosen * math.log(2), exponentials, total
        # exp2_ wrote over the logits, so they are computed again.
        logits = _logits(hidden, weight)
    # (rows,)
    greatest = logits.amax(0)
    exponentials = logits.sub_(greatest).exp2_()
    total = exponentials.sum(0)
    return total.log() - (chosen - greatest) * math.log(2), exponentials, total


def _logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """Return logits (vocab, rows), float32 or more, times log2(e)."""
    # The narrow factor takes the log2(e): width numbers a row, not vocab. In fewer bits that would
    # round `hidden` once more, so there the logits take it, in float32.
    if torch.finfo(hidden.dtype).bits >= 32:
        return weight @ (hidden * math.log2(math.e)).T
    return (weight @ hidden.T).to(torch.float32).mul_(math.log2(math.e))


def _blocks(hidden: Tensor) -> list[slice]:
    """Return slices of at most a block's rows that cover all rows of `hidden`."""
    size = _ROWS_ON_CPU if hidden.is_cpu else _ROWS_ON_GPU
    return [slice(start, min(start + size, len(hidden))) for start in range(0, len(hidden), size)]
