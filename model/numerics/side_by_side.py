"""Compute several things side by side, each in one thread, with the same bytes for any number."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class SideBySide:
    """`threads` threads that wait for work. torch and numpy compute outside the interpreter lock.

    torch uses one thread for each operator: a sum that several threads share has other bytes.
    """

    def __init__(self, threads: int):
        self.threads = threads
        self._pool = (
            ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
            if threads > 1
            else None
        )

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return function(item) for each item, in order; raise what the first to fail raised.

        The caller's gradient mode does not hold in the threads: `function` sets its own.
        """
        if self._pool is None:
            return [function(item) for item in items]
        return list(self._pool.map(function, items))
