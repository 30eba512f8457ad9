"""The output layer and the cross-entropy in one, a few hundred rows of logits at a time.

At GPT-2's size the logits of a micro batch of 4 × 1,024 tokens are 0.8 GB, and autograd would hold them three times. Here
each block of logits becomes its part of both gradients while it is at hand: the same three products, and nothing to keep.
"""

import torch
from torch import Tensor

# Blocks of logits that stay in a CPU's cache, and that keep a GPU busy.
_ROWS_ON_CPU, _ROWS_ON_GPU = 256, 4096


def token_losses(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood in nats of each target, float32 (rows,), without a gradient.

    `hidden` (rows, width), `weight` (vocab, width) of the output layer, `targets` (rows,) int64.
    """
    with torch.no_grad():
        return torch.cat([_softmax(hidden, weight, targets, rows)[0] for rows in _blocks(hidden)])


def mean_loss(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of `token_losses` with gradients for `hidden` and `weight`, each computed in `hidden`'s dtype."""
    return _MeanLoss.apply(hidden, weight, targets)


class _MeanLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        of_hidden, of_weight = torch.empty_like(hidden), torch.empty_like(weight)
        weight = weight.to(hidden.dtype)
        losses = []
        for number, rows in enumerate(_blocks(hidden)):
            loss, gradient = _softmax(hidden, weight, targets, rows)
            losses.append(loss)
            chosen = targets[None, rows]
            gradient.scatter_(0, chosen, gradient.gather(0, chosen) - 1)
            gradient = gradient.to(hidden.dtype)
            torch.mm(gradient.T, weight, out=of_hidden[rows])
            if hidden.dtype != of_weight.dtype:
                part = gradient @ hidden[rows]  # summed in float32
                of_weight.copy_(part) if number == 0 else of_weight.add_(part)
            elif number == 0:
                torch.mm(gradient, hidden[rows], out=of_weight)
            else:
                of_weight.addmm_(gradient, hidden[rows])
        ctx.gradients = of_hidden, of_weight
        return torch.cat(losses).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, scale: Tensor) -> tuple[Tensor, Tensor, None]:
        of_hidden, of_weight = ctx.gradients
        ctx.gradients = None  # they are scaled in place
        scale = scale / len(of_hidden)
        return of_hidden.mul_(scale), of_weight.mul_(scale), None


def _softmax(hidden: Tensor, weight: Tensor, targets: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
    """Return the losses of `rows` (rows,) and the probabilities of all tokens there, float32 (vocab, rows).

    Transposed, because MKL computes this product 1.6 times as fast as the other for a narrow network.
    """
    logits = (weight @ hidden[rows].T).to(torch.promote_types(hidden.dtype, torch.float32))
    logits -= logits.amax(0)
    chosen = logits.gather(0, targets[None, rows])[0]
    total = logits.exp_().sum(0)
    return total.log() - chosen, logits.mul_(1 / total)


def _blocks(hidden: Tensor) -> list[slice]:
    size = _ROWS_ON_CPU if hidden.device.type == "cpu" else _ROWS_ON_GPU
    return [slice(start, min(start + size, len(hidden))) for start in range(0, len(hidden), size)]
