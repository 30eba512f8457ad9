"""Add gradients in an order that depends on their number alone."""

from torch import Tensor

from model.numerics.side_by_side import SideBySide


class PairwiseSum:
    """The sum of lists of tensors, added in the order in which a binary counter carries.

    `_parts` has at most one sum of 1, 2, 4, 8, … lists each, as a number has at most one of each
    binary digit. While lists 1 to 5 are added it holds:

        1         1                         (1 list)
        2         1+2                       (2 lists: the new one was carried)
        3         1+2   3                   (2 and 1)
        4         (1+2)+(3+4)               (4: carried twice)
        5         (1+2)+(3+4)   5           (4 and 1)

    The total is ((1+2)+(3+4))+5. Sums of 2, 4, 8, … neighbours are computed without any other list,
    so the total does not depend on which process computed them. Floating-point sums in another
    order would have other last bits.
    """

    def __init__(self, threads: SideBySide):
        self._threads = threads
        # Each entry: how many lists, and their sum. The counts fall: 4, 1.
        self._parts: list[tuple[int, list[Tensor]]] = []

    def add(self, tensors: list[Tensor]) -> None:
        """Add one list; all lists have tensors of the same shapes in the same order."""
        count = 1
        # Two sums of equal count make one of twice that count: the carry.
        while self._parts and self._parts[-1][0] == count:
            tensors = self._sum(self._parts.pop()[1], tensors)
            count *= 2
        self._parts.append((count, tensors))

    def total(self) -> list[Tensor]:
        """Return the sum of all lists and forget them; at least one must have been added."""
        # From the smallest count to the greatest: 7 lists are (1…4) + ((5 + 6) + 7).
        _, total = self._parts.pop()
        while self._parts:
            total = self._sum(self._parts.pop()[1], total)
        return total

    def _sum(self, left: list[Tensor], right: list[Tensor]) -> list[Tensor]:
        return self._threads.map(lambda pair: pair[0] + pair[1], zip(left, right, strict=True))
