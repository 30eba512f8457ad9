"""Gradients by rows: the same bytes for any number of threads and processes."""

import json
import subprocess
import sys

import pytest
import torch
from portable_kernels import environment, kernels  # noqa: F401
from repository import REPOSITORY
from torch import nn

from model.numerics.side_by_side import SideBySide
from model.pretraining.gradients import MicroBatchGradients, PairwiseSum, RowGradients
from model.runtime.distributed import Processes

ONE = Processes(rank=0, local_rank=0, count=1)


class Network(nn.Module):
    """Maps rows (rows, 5) of ids to their mean loss."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(50, 16, generator=generator))
        self.weight = nn.Parameter(torch.randn(50, 16, generator=generator))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        scores = self.table[rows[:, :-1]].tanh() @ self.weight.T
        return nn.functional.cross_entropy(scores.flatten(0, 1), rows[:, 1:].flatten())


def rows(count: int) -> torch.Tensor:
    return torch.randint(50, (count, 5), generator=torch.Generator().manual_seed(count))


def gradients_of(make, batch: torch.Tensor) -> list[torch.Tensor]:
    network = Network()
    loss = make(network)(batch)
    return [loss, *(parameter.grad for parameter in network.parameters())]


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_rows_have_the_same_bytes_for_any_threads_and_are_those_of_micro_batches(count):
    by_threads = [
        gradients_of(lambda net, n=n: RowGradients(net, SideBySide(n), ONE), rows(count))
        for n in (1, 2, 3)
    ]
    for others in zip(*by_threads, strict=True):
        assert all(torch.equal(others[0], other) for other in others[1:])
    device = torch.device("cpu")
    whole = gradients_of(lambda net: MicroBatchGradients(net, count, ONE, device), rows(count))
    for one, other in zip(by_threads[0], whole, strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-4, atol=1e-6)


def test_sums_are_added_as_a_binary_counter_carries():
    order = []

    class Named(str):
        def __add__(self, other):
            order.append(f"{self}+{other}")
            return Named(f"({self}{other})")

    pairs = PairwiseSum(SideBySide(1))
    for name in "12345":
        pairs.add([Named(name)])
    assert pairs.total() == ["(((12)(34))5)"]
    assert order == ["1+2", "3+4", "(12)+(34)", "((12)(34))+5"]


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_sums_of_neighbours_make_the_same_sum(parts):
    values = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0))

    def total(of) -> torch.Tensor:
        pairs = PairwiseSum(SideBySide(1))
        for each in of:
            pairs.add([each])
        return pairs.total()[0]

    assert torch.equal(total([total(part) for part in values.chunk(parts)]), total(values))
    in_order = values[0]
    for each in values[1:]:
        in_order = in_order + each
    assert not torch.equal(in_order, total(values))  # so the order is what makes them equal


PROCESS = """
import hashlib, json, sys
sys.path[:0] = [{tests!r}]
import torch
from datetime import timedelta
from test_gradients import Network, rows
from model.numerics import portable
from model.numerics.side_by_side import SideBySide
from model.pretraining.gradients import RowGradients
from model.runtime.distributed import joined_processes
portable.install()
with joined_processes("cpu", timedelta(minutes=1)) as processes:
    network, batch = Network(), rows(8)
    share = len(batch) // processes.count
    mine = batch[processes.rank * share : (processes.rank + 1) * share]
    loss = RowGradients(network, SideBySide(2), processes)(mine)
    found = [loss, *(parameter.grad for parameter in network.parameters())]
    if processes.rank == 0:
        text = [hashlib.sha256(each.detach().numpy().tobytes()).hexdigest() for each in found]
        print("found " + json.dumps(text))
"""


@pytest.mark.slow("processes that import torch, and wait for each other", minutes=1)
def test_two_and_four_processes_have_the_bytes_of_one(tmp_path):
    program = tmp_path / "gradients.py"
    program.write_text(PROCESS.format(tests=str(REPOSITORY / "tests/model/numerics")))
    found = []
    for count in (1, 2, 4):
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
        done = subprocess.run(
            [sys.executable, *(launch if count > 1 else []), program],
            cwd=REPOSITORY,
            env=environment(PYTHONPATH=f"{REPOSITORY}:{REPOSITORY / 'tests/helpers'}"),
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        [line] = [line for line in done.stdout.splitlines() if line.startswith("found ")]
        found.append(json.loads(line.removeprefix("found ")))
    assert len(found[0]) == 3
    assert found[0] == found[1] == found[2]
