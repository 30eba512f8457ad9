"""Compute several things side by side, each in one thread: the same bytes for any thread count."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class SideBySide:
    """A pool of `threads` threads; with one, everything runs in the caller's thread.

    Threads help, since torch and numpy compute outside the interpreter lock. In each of them torch
    uses one thread per operator, because a sum that several threads share has other bytes.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self._pool = (
            ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
            if threads > 1
            else None
        )

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return function(item) for each item, in order.

        Raises what the first failing item raised. Threads do not inherit the caller's gradient mode
        (`torch.no_grad`), so `function` sets its own.
        """
        if self._pool is None:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))
