"""The gradients of a step: by micro batch, or by row and summed in an order fixed by the batch.

Native kernels use `MicroBatchGradients`. Portable kernels use `RowGradients`, whose bytes do not
depend on the number of threads or processes.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.numerics.pairwise_sum import PairwiseSum
from model.numerics.side_by_side import SideBySide
from model.runtime.distributed import Processes

# Maps this process's rows of ids (rows, context + 1) int64 to a mean loss in nats per token, and
# leaves the gradients of the global batch's mean loss in the parameters' `grad`.
Gradients = Callable[[Tensor], Tensor]


class MicroBatchGradients:
    """Compute one micro batch after another and accumulate their gradients.

    DistributedDataParallel exchanges the sums once, in the backward pass of the last micro batch.
    """

    def __init__(
        self, network: nn.Module, micro_batch_rows: int, processes: Processes, device: torch.device
    ):
        self._micro_batch_rows, self._device = micro_batch_rows, device
        if processes.count > 1:
            devices = [device] if device.type == "cuda" else None
            network = DistributedDataParallel(network, devices, gradient_as_bucket_view=True)
        self._network = network

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the mean loss of this process's rows, without waiting for the device."""
        # Each (micro batch rows, context + 1).
        micro_batches = batch.to(self._device, non_blocking=True).split(self._micro_batch_rows)
        losses = []
        for number, micro_batch in enumerate(micro_batches, 1):
            with self._not_exchanging() if number < len(micro_batches) else nullcontext():
                loss = self._network(micro_batch)
                # Gradients add up, so each micro batch contributes its share of the mean.
                (loss / len(micro_batches)).backward()
            losses.append(loss.detach())
        # Equal micro batches, so the mean of their means is the mean of all rows.
        return torch.stack(losses).mean()

    def _not_exchanging(self) -> AbstractContextManager[None]:
        network = self._network
        return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


class RowGradients:
    """Compute each row's gradients in one thread, and sum them in an order fixed by the batch.

    The bytes are the same for any number of threads. They are also the same for any number of
    processes if the processes, and the rows of each, are powers of two: the sum of a process is
    then a complete subtree of the whole sum. Of eight rows in two processes:

        process 0           process 1           all_gather, then in each process
        (1 + 2) + (3 + 4)   (5 + 6) + (7 + 8)   [process 0] + [process 1]

    As many rows are computed at a time as there are threads. Besides their gradients, memory holds
    the sums of about log2(rows) groups of rows.
    """

    def __init__(self, network: nn.Module, threads: SideBySide, processes: Processes):
        self._network, self._threads, self._processes = network, threads, processes
        self._parameters = list(network.parameters())

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the mean loss of the rows of all processes."""
        # Of all processes: dividing each row's loss by this makes the sum a mean.
        rows = len(batch) * self._processes.count

        # `row` is (context + 1,); returns its share of the loss, and of each parameter's gradient.
        def of_row(row: Tensor) -> list[Tensor]:
            loss = self._network(row[None]) / rows
            return [loss.detach(), *torch.autograd.grad(loss, self._parameters)]

        pairs = PairwiseSum(self._threads)
        for together in batch.split(self._threads.threads):
            for gradients in self._threads.map(of_row, together):
                pairs.add(gradients)
        # The loss travels as one more tensor of the list.
        loss, *gradients = self._of_all_processes(pairs.total())
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def _of_all_processes(self, sums: list[Tensor]) -> list[Tensor]:
        """Return the sums over all processes, added pairwise in the order of their ranks."""
        if self._processes.count == 1:
            return sums
        # all_reduce would add in an order of its own. So every process gathers all parts, and adds
        # them itself: (numbers of all tensors,), once for each process.
        flat = torch.cat([each.flatten() for each in sums])
        parts = [torch.empty_like(flat) for _ in range(self._processes.count)]
        dist.all_gather(parts, flat)
        # Where each tensor ends in `flat`: tensors of 1, 6 and 3 numbers give 0, 1, 7, 10.
        ends = [0, *torch.tensor([each.numel() for each in sums]).cumsum(0).tolist()]
        pairs = PairwiseSum(self._threads)
        for part in parts:
            pairs.add([part])
        [total] = pairs.total()
        return [
            total[start:end].view_as(each)
            for (start, end), each in zip(pairwise(ends), sums, strict=True)
        ]
