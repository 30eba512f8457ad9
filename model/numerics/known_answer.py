"""A known answer: whether portable kernels compute here what they compute everywhere else.

The computation is two training steps of a tiny network, functions, and products in the shapes for
which OpenBLAS has separate kernels. The SHA-256 of all results is compared with `ANSWER`. It takes
a few milliseconds, once in each process that computes.
"""

import hashlib
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# The result of `_digest()` with the libraries of requirements.txt. Other versions of torch and
# numpy may have another one. `python -m model.numerics.known_answer` prints it, if the variables of
# pyproject.toml are set.
ANSWER = "65485d894db3e29f49c38e30886f1c39aa10585506f62f7504e4de9ab94078b0"


@cache
def holds() -> bool:
    """Return whether this process computes the known answer; portable kernels must be installed."""
    return _digest() == ANSWER


def warning() -> str:
    """Return the warning that these libraries do not compute the known answer."""
    return (
        "warning: numerics.kernels is portable, and these libraries compute other bytes than those "
        f"of requirements.txt (torch {torch.__version__} with "
        f"{torch.backends.cpu.get_cpu_capability()}, numpy {np.__version__}): figures will differ "
        "from the committed ones (docs/training.md)"
    )


def _digest() -> str:
    """Return the SHA-256 of the bytes of all results, in order."""
    found = hashlib.sha256()
    for result in [*_products(), *_functions(), *_steps()]:
        found.update(np.ascontiguousarray(result.detach().numpy()).tobytes())
    return found.hexdigest()


def _numbers(*shape: int) -> Tensor:
    """Return numbers from -1 to 1 that do not depend on a library's generator, float32 `shape`."""
    # Fibonacci hashing: multiply by 2⁶⁴ / golden ratio and keep the top 24 bits, which float32
    # holds exactly.
    count = int(np.prod(shape))
    integers = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    values = (integers >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)
    return torch.from_numpy(values.reshape(shape))


def _products() -> list[Tensor]:
    wide, long = _numbers(48, 40), _numbers(40, 900)
    return [
        wide @ long,
        long.T @ wide.T,
        # One row takes the kernel for vectors.
        wide[:1] @ long,
        # Sums of 900 numbers, longer than OpenBLAS's blocks of a sum.
        _numbers(9, 900) @ long.T,
        torch.baddbmm(_numbers(3, 5, 7), _numbers(3, 5, 40), _numbers(3, 40, 7), alpha=0.5),
        wide.double() @ long.double(),
    ]


def _functions() -> list[Tensor]:
    """Return functions, sums and random numbers of all kinds that the stages compute."""
    x = _numbers(37, 65) * 8
    positive = x.abs() + 1e-3
    return [
        *(x.exp(), positive.log(), positive.sqrt(), x.tanh(), x.sigmoid()),
        *(x.softmax(-1), F.log_softmax(x, -1), F.log_softmax(x.double(), -1)),
        *(x.sum(), x.sum(0), x.sum(1), x.mean(), torch.linalg.vector_norm(x), x.pow(3)),
        F.gelu(x, approximate="tanh"),
        torch.empty(100).normal_(generator=torch.Generator().manual_seed(0)),
    ]


def _steps() -> list[Tensor]:
    """Return the weights of a small attention layer and its norm after two steps of AdamW."""
    # (24, 72): width 24 to query, key and value of 3 heads of width 8; also the output layer of 72
    # ids.
    weights = [(_numbers(24, 72) / 4).requires_grad_(), torch.ones(24, requires_grad=True)]
    # 140 tokens: more than two of attention's blocks of 64 queries.
    x, targets = _numbers(140, 24), torch.arange(140) % 72
    means, squares, steps = (
        [torch.zeros(shape) for shape in shapes]
        for shapes in ([(24, 72), (24,)], [(24, 72), (24,)], [(), ()])
    )
    for _ in range(2):
        normed = F.layer_norm(x, (24,), weights[1])
        # (1, 140, 72) → three of (1, 3 heads, 140, 8)
        query, key, value = (normed @ weights[0]).view(1, 140, 3, 3, 8).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        # (140, 24)
        hidden = mixed.transpose(1, 2).reshape(140, 24)
        loss = F.cross_entropy(hidden @ weights[0], targets)
        gradients = list(torch.autograd.grad(loss, weights))
        # The operator that torch.optim.AdamW calls, whose import takes a second.
        with torch.no_grad():
            torch.ops.aten._fused_adamw_(
                *(weights, gradients, means, squares, [], [step.add_(1) for step in steps]),
                lr=0.01,
                beta1=0.9,
                beta2=0.99,
                weight_decay=0.1,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )
    return weights


if __name__ == "__main__":
    from model.numerics import portable

    portable.install()
    print(_digest(), "as everywhere" if holds() else f"and not {ANSWER}")
