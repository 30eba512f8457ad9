"""The gradients of a step: of whole micro batches, or of rows, whose sum no machine changes."""

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

# Maps rows of ids (rows, context + 1) int64 to their mean loss, and leaves its gradients in the
# parameters' `grad`.
Gradients = Callable[[Tensor], Tensor]


class MicroBatchGradients:
    """One micro batch after another; DistributedDataParallel exchanges sums in the last one."""

    def __init__(
        self, network: nn.Module, micro_batch_rows: int, processes: Processes, device: torch.device
    ):
        self._micro_batch_rows, self._device = micro_batch_rows, device
        if processes.count > 1:
            devices = [device] if device.type == "cuda" else None
            network = DistributedDataParallel(network, devices, gradient_as_bucket_view=True)
        self._network = network

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the mean loss of this process's rows. Nothing here waits for the device."""
        micro_batches = batch.to(self._device, non_blocking=True).split(self._micro_batch_rows)
        losses = []
        for number, micro_batch in enumerate(micro_batches, 1):
            with self._not_exchanging() if number < len(micro_batches) else nullcontext():
                loss = self._network(micro_batch)
                (loss / len(micro_batches)).backward()
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    def _not_exchanging(self) -> AbstractContextManager[None]:
        network = self._network
        return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


class RowGradients:
    """Each row's gradients in one thread, and their sum in an order that only the batch determines.

    So the bytes are the same for any number of threads; and of processes, if there are 1, 2, 4, 8,
    … of them and each has 1, 2, 4, 8, … rows. As many rows are computed at a time as there are
    threads; beside theirs, memory holds the sums of log2(rows) groups of rows.
    """

    def __init__(self, network: nn.Module, threads: SideBySide, processes: Processes):
        self._network, self._threads, self._processes = network, threads, processes
        self._parameters = list(network.parameters())

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the mean loss of the rows of all processes."""
        rows = len(batch) * self._processes.count

        def of_row(row: Tensor) -> list[Tensor]:
            loss = self._network(row[None]) / rows
            return [loss.detach(), *torch.autograd.grad(loss, self._parameters)]

        pairs = PairwiseSum(self._threads)
        for together in batch.split(self._threads.threads):
            for gradients in self._threads.map(of_row, together):
                pairs.add(gradients)
        loss, *gradients = self._of_all_processes(pairs.total())
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        return loss

    def _of_all_processes(self, sums: list[Tensor]) -> list[Tensor]:
        """Return the sums over the processes, in their order."""
        if self._processes.count == 1:
            return sums
        flat = torch.cat([each.flatten() for each in sums])
        parts = [torch.empty_like(flat) for _ in range(self._processes.count)]
        dist.all_gather(parts, flat)
        ends = [0, *torch.tensor([each.numel() for each in sums]).cumsum(0).tolist()]
        pairs = PairwiseSum(self._threads)
        for part in parts:
            pairs.add([part])
        [total] = pairs.total()
        return [
            total[start:end].view_as(each)
            for (start, end), each in zip(pairwise(ends), sums, strict=True)
        ]
