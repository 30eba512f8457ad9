"""The interval of a difference over seeds, in two parts: other networks, and other items.

Networks of one condition differ by their seeds, and all of them answer the same items. With Vs the
variance that the seeds show, Vi the one over items, Vb the part of it that single networks bring in
and that Vs holds too, h half the interval over items, and t Student's with the seeds' degrees of
freedom:

    half = max(sqrt(t² · Vs + h² · max(Vi - Vb, 0) / Vi), h)

Only the seeds' part pays for the few seeds: with t on both parts, more seeds would find less.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

POWER = 0.8
SIGNIFICANT = 0.05

Floats = NDArray[np.float64]


class Student(NamedTuple):
    """A standard error, and the degrees of freedom of Student's t for it."""

    error: float
    freedom: float

    def half(self, level: float = SIGNIFICANT) -> float:
        """Return half the width of the interval that covers all but `level`."""
        return float(stats.t.isf(level / 2, self.freedom)) * self.error

    def of_half(self, half: float) -> "Student":
        """Return the same degrees of freedom with the error whose 95 % interval has `half`."""
        return self._replace(error=half / self._replace(error=1.0).half())

    def p(self, difference: float) -> float:
        """Return the two-sided p of `difference`.

        Where all clusters or seeds agree the error is 0, and only their number is known: p is then
        that of the sign test.
        """
        if self.error == 0:
            return 1.0 if difference == 0 else 2.0**-self.freedom
        return float(2 * stats.t.sf(abs(difference) / self.error, self.freedom))

    def detectable(self, level: float) -> float:
        """Return the true difference whose p is below `level` with a probability of `POWER`."""
        return _detectable(self.half(level) / self.error, self.freedom) * self.error


class OverSeeds(NamedTuple):
    """Both parts of a difference's variance.

    `seeds` and `items` have the errors of either part. `beyond` is the share of the items' variance
    that no number of seeds takes away: (Vi - Vb) / Vi, from 0 to 1.
    """

    seeds: Student
    items: Student
    beyond: float

    @property
    def variance(self) -> float:
        return self.seeds.error**2 + self.beyond * self.items.error**2

    def half(self, level: float) -> float:
        """Return half the width of the interval that covers all but `level`."""
        items = self.items.half(level)
        return max(math.hypot(self.seeds.half(level), math.sqrt(self.beyond) * items), items)

    def p(self, difference: float) -> float:
        """Return the level whose interval around `difference` ends at 0."""
        if self.seeds.error == 0:
            return max(self.seeds.p(difference), self.items.p(difference))
        if difference == 0:
            return 1.0
        distance = abs(difference)
        tiny = 1e-12
        if self.half(tiny) <= distance:
            return tiny
        # In logarithms: p may be any power of ten.
        return math.exp(
            brentq(lambda log_p: self.half(math.exp(log_p)) - distance, math.log(tiny), 0.0)
        )

    def detectable(self, level: float) -> float | None:
        """Return the true difference whose p is below `level` with a probability of `POWER`.

        The degrees of freedom of both parts together are Satterthwaite's (1946). Return None where
        nothing varied.
        """
        variance = self.variance
        if self.seeds.error == 0 or not variance:
            return None
        items = self.beyond * self.items.error**2
        freedom = variance**2 / (
            self.seeds.error**4 / self.seeds.freedom + items**2 / self.items.freedom
        )
        error = math.sqrt(variance)
        return _detectable(self.half(level) / error, freedom) * error


def over_seeds(
    first: Floats, second: Floats, items: Student, own: float, is_paired: bool
) -> OverSeeds:
    """Return both parts of the variance of mean(second) - mean(first), figures by seed, (seeds,).

    `items` has the error over items, and `own` the share of its variance that single networks bring
    in, Vb / Vi. `is_paired`: losses of one seed, which gives both conditions the same first weights
    and order of documents, move together, so that they are compared seed by seed. Accuracies hardly
    do, and unpaired they have twice the degrees of freedom. The unit decides, never the result.
    """
    count = len(first)
    by_seed = [second - first] if is_paired else [first, second]
    variance = math.fsum(float(values.var(ddof=1)) for values in by_seed) / count
    # Seeds that agree to the last digits of their figures agree.
    scale = float(np.abs([first, second]).max())
    error = math.sqrt(variance) if math.sqrt(variance) > 1e-12 * scale else 0.0
    seeds = Student(error, len(by_seed) * (count - 1))
    return OverSeeds(seeds, items, min(max(1.0 - own, 0.0), 1.0))


def _detectable(critical: float, freedom: float) -> float:
    """Return the shift of Student's t that exceeds `critical` with a probability of `POWER`."""

    # A difference that is found with the wrong sign does not count.
    def lacking(shift: float) -> float:
        return float(stats.nct.sf(critical, freedom, shift)) - POWER

    return brentq(lacking, 0.0, 4 * critical)
