"""Add gradients in an order that only their number determines."""

from torch import Tensor

from model.numerics.side_by_side import SideBySide


class PairwiseSum:
    """The sum of lists of tensors, added as a binary counter carries.

    Of five lists it is ((1 + 2) + (3 + 4)) + 5. Sums of 2, 4, 8, … neighbours are complete by
    themselves, so it does not matter which process has made them.
    """

    def __init__(self, threads: SideBySide):
        self._threads = threads
        self._parts: list[tuple[int, list[Tensor]]] = []  # how many lists, and their sum

    def add(self, tensors: list[Tensor]) -> None:
        count = 1
        while self._parts and self._parts[-1][0] == count:
            tensors = self._sum(self._parts.pop()[1], tensors)
            count *= 2
        self._parts.append((count, tensors))

    def total(self) -> list[Tensor]:
        """Return the sum of all lists; at least one must have been added."""
        _, total = self._parts.pop()
        while self._parts:
            total = self._sum(self._parts.pop()[1], total)
        return total

    def _sum(self, left: list[Tensor], right: list[Tensor]) -> list[Tensor]:
        return self._threads.map(lambda pair: pair[0] + pair[1], zip(left, right, strict=True))
