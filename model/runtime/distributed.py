"""The processes of one job, as torchrun started them; without torchrun there is one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from common.errors import PipelineError

# How long a process waits for the others. Each scores its part, which may take hours, before they
# exchange results.
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """This process is number `rank` of `count`, from 0.

    `local_rank` is its number on its own machine, and the number of its GPU. Two machines of four
    GPUs have ranks 0 to 7 and local ranks 0 to 3 twice.
    """

    rank: int
    local_rank: int
    count: int

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of `values` over the processes, in the shape and dtype of `values`.

        Every process must call it with the same shape. Where only one process has a number other
        than zero, the sum is that number, bit for bit.
        """
        if self.count == 1:
            return values
        # A copy: all_reduce writes the sum into the tensor's memory.
        tensor = torch.from_numpy(values.copy())
        dist.all_reduce(tensor)
        return tensor.numpy()


@contextmanager
def joined_processes(device: str = "cpu", patience: timedelta = _PATIENCE) -> Iterator[Processes]:
    """Join the processes that torchrun names in the environment: RANK, LOCAL_RANK, WORLD_SIZE.

    They exchange CPU tensors through gloo and, with `device` cuda, GPU tensors through NCCL. If a
    process hangs, the others fail after `patience`. If one dies, torchrun ends the others at once.
    Raises PipelineError if the variables contradict each other.
    """
    # torchrun sets all three; without it this process is 0 of 1.
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
    # Not in a `finally`: a failing process would wait for the others before it reports its error.
    if count > 1:
        dist.destroy_process_group()
