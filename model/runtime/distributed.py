"""The processes that torchrun starts for one job, each with its rank; without torchrun there is one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from common.errors import PipelineError

# Each scores its part, and they meet at the end.
_PATIENCE = timedelta(days=1)


class Processes(NamedTuple):
    """`rank` of `count` processes; `local_rank` counts on one machine, and is the number of the process's device."""

    rank: int
    local_rank: int
    count: int

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of `values` over the processes. Where all but one add zero, it is that one's to the bit."""
        if self.count == 1:
            return values
        tensor = torch.from_numpy(values.copy())
        dist.all_reduce(tensor)
        return tensor.numpy()


@contextmanager
def joined_processes(device: str = "cpu", patience: timedelta = _PATIENCE) -> Iterator[Processes]:
    """Join the processes that torchrun has told of in the environment (RANK, LOCAL_RANK, WORLD_SIZE).

    They talk through gloo, and about what is on a `device` that is cuda through NCCL. One that hangs fails the others after
    `patience`; torchrun ends them at once where one dies.
    """
    environment = (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"))
    rank, local_rank, count = (int(os.environ.get(name, default)) for name, default in environment)
    if not 0 <= rank < count:
        raise PipelineError(
            f"the environment's RANK is {rank} of a WORLD_SIZE of {count}; unset both, or start "
            "with torchrun"
        )
    if count > 1:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=patience
        )
    yield Processes(rank, local_rank, count)
    # Not where one fails: it would wait for the others before it says why.
    if count > 1:
        dist.destroy_process_group()
