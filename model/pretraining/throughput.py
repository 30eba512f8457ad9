"""Training speed: tokens per second, and utilization of the machine's rate of matrix products."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from model.network.gpt import GPTConfig


def flops_per_token(config: GPTConfig) -> int:
    """Return the floating-point operations of a token's forward and backward products.

    Source: Chowdhery et al. 2022 (PaLM), appendix B: 6 × parameters that multiply, plus
    12 × layers × width × context for attention over the whole context. For GPT-2's 12 × 768 network
    with context 1,024 and 50,304 ids: 6 × 123,568,128 + 113,246,208 = 0.85 × 10⁹.
    """
    # A block has 4 width² parameters in attention and 8 width² in the MLP. The output layer
    # multiplies; the embedding, the same tensor, is only looked up.
    multiplying = 12 * config.layers * config.width**2 + config.vocab_size * config.width
    return 6 * multiplying + 12 * config.layers * config.width * config.context


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the floating-point operations per second of a product of two square matrices.

    The fastest of six products counts, so one slowed by other work does not.
    """
    size = 8192 if device.type == "cuda" else 1024
    # Random numbers, since with equal ones a GPU draws less power and runs faster. They come from a
    # generator of their own, so the run's generator is not advanced.
    matrix = torch.rand(size, size, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        # `item` waits for the device.
        (matrix @ matrix)[0, 0].item()
        seconds.append(time.perf_counter() - started)
    # A product of size³ multiplications and as many additions.
    return 2 * size**3 / min(seconds)


class Rate(NamedTuple):
    """How fast some steps were trained; `mfu` is model FLOPs utilization, between 0 and 1."""

    tokens_per_second: float
    mfu: float


class Speed:
    """The seconds of a run by activity, and its rate.

    Utilization is the model's FLOPs per second over the peak. The peak is `product_rate` at the
    start, measured in one process or thread, times the `computing` ones.
    """

    def __init__(
        self,
        config: GPTConfig,
        tokens_per_step: int,
        device: torch.device,
        dtype: torch.dtype,
        computing: int,
    ):
        self._flops_per_token, self._tokens_per_step = flops_per_token(config), tokens_per_step
        self._device = device
        self._peak = product_rate(device, dtype) * computing
        self._seconds: dict[str, float] = {}
        self._steps = 0
        self._last = time.perf_counter()

    def start(self) -> None:
        """Start the clock of training now."""
        self._last = time.perf_counter()

    def took(self, steps: int) -> Rate:
        """Add the time since the last call as `steps` of training; return their rate."""
        now = time.perf_counter()
        rate = steps * self._tokens_per_step / (now - self._last)
        self._add("training", now - self._last)
        self._steps += steps
        self._last = now
        return Rate(rate, self._utilization(rate))

    def seconds_for(self, steps: int) -> float:
        """Estimate the seconds of `steps` more steps, validation and all other work included."""
        return steps * sum(self._seconds.values()) / self._steps

    @contextmanager
    def other(self, what: str) -> Iterator[None]:
        """Count the seconds of the block as `what` instead of training."""
        if self._device.type == "cuda":
            # Kernels that are still running belong to training.
            torch.cuda.synchronize()
        started = time.perf_counter()
        yield
        self._add(what, time.perf_counter() - started)
        # `took` counts from `_last`: moved by the block's seconds, it leaves them out.
        self._last += time.perf_counter() - started

    def _add(self, what: str, seconds: float) -> None:
        self._seconds[what] = self._seconds.get(what, 0.0) + seconds

    def summary(self) -> dict[str, Any]:
        """Return this process's timings, in seconds and per second.

        They vary between runs, so no output may depend on them.
        """
        rate = self._steps * self._tokens_per_step / max(self._seconds.get("training", 0.0), 1e-9)
        return {
            "model_flops_utilization": self._utilization(rate),
            "product_flops_per_second": self._peak,
            "seconds": dict(self._seconds),
            "steps": self._steps,
            "tokens_per_second": rate,
        }

    def _utilization(self, tokens_per_second: float) -> float:
        return tokens_per_second * self._flops_per_token / self._peak
