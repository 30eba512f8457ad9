"""Set the kernels and threads of a stage, by the `numerics` section of params.yaml."""

import os
import sys
from typing import NamedTuple

import torch

from model.numerics import known_answer, portable, processor
from model.numerics.side_by_side import SideBySide
from model.params.numerics import NumericsParams
from model.runtime.cores import cores


class Numerics(NamedTuple):
    """How this process computes: which kernels, and how many threads.

    Native kernels share `threads` threads within an operator, and `side_by_side` has one. Portable
    kernels use one thread for each operator, and `side_by_side` has `threads`.
    """

    portable: bool
    threads: int
    side_by_side: SideBySide

    def rows_at_a_time(self, micro_batch_rows: int) -> int:
        """Return how many rows to compute losses of in one product: at most `micro_batch_rows`.

        With portable kernels it is one, so the bytes do not depend on `micro_batch_rows`.
        """
        return 1 if self.portable else micro_batch_rows


def set_numerics(params: NumericsParams) -> Numerics:
    """Set kernels and threads in this process; warn if they do not compute the portable bytes."""
    # cuBLAS reads this at its first call. Without it some products are not reproducible.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Deterministic mode also fills new tensors with NaN; turned off, since it costs a pass over
    # memory per allocation. mypy does not know the attribute, a property of the module's class.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if params.threads is not None:
        torch.set_num_threads(params.threads)
        # A number of threads in params.yaml means native kernels.
        return Numerics(False, params.threads, SideBySide(1))
    portable.install()
    # Warn once: the stage `params` has already named a processor that cannot, and of several
    # processes only the first prints.
    is_told = processor.lacks() is not None or os.environ.get("RANK", "0") != "0"
    if not is_told and not known_answer.holds():
        print(known_answer.warning(), file=sys.stderr)
    return Numerics(True, cores(), SideBySide(cores()))
