"""Training speed: tokens per second, and the share of the machine's rate of matrix products."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from model.network.gpt import GPTConfig


def flops_per_token(config: GPTConfig) -> int:
    """Return the floating-point operations of a token's forward and backward products.

    Attention counts over the whole context. Source: Chowdhery et al. 2022 (PaLM), appendix B: 6 ×
    parameters that multiply, and 12 × layers × width × context.
    """
    multiplying = 12 * config.layers * config.width**2 + config.vocab_size * config.width
    return 6 * multiplying + 12 * config.layers * config.width * config.context


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the floating-point operations per second of a product of two square matrices."""
    size = 8192 if device.type == "cuda" else 1024
    # Random numbers: with equal ones a GPU draws less power and runs faster. Not from the run's own
    # generator.
    matrix = torch.rand(size, size, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        (matrix @ matrix)[0, 0].item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)


class Rate(NamedTuple):
    """How fast some steps were trained; `mfu` is the utilization, as a share of 1."""

    tokens_per_second: float
    mfu: float


class Speed:
    """The seconds of a run by activity.

    Utilization is the model's FLOPs over what products alone reached on this machine at the start:
    in one process, times those that are `computing`.
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
        """Count from now on."""
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
        """Foresee the seconds of `steps` more, validation and all other work included."""
        return steps * sum(self._seconds.values()) / self._steps

    @contextmanager
    def other(self, what: str) -> Iterator[None]:
        """Count the seconds of the block as those of `what`, and not as training's."""
        if self._device.type == "cuda":
            torch.cuda.synchronize()  # what is still being computed is training's
        started = time.perf_counter()
        yield
        self._add(what, time.perf_counter() - started)
        self._last += time.perf_counter() - started

    def _add(self, what: str, seconds: float) -> None:
        self._seconds[what] = self._seconds.get(what, 0.0) + seconds

    def summary(self) -> dict[str, Any]:
        """Return this process's timings; nothing may depend on them, since they vary."""
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
