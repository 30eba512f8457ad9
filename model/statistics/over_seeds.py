"""The interval of a difference over seeds: its variance has a seeds' part and an items' part.

The question is how far the difference would move with other networks of the same conditions and
with other items. Networks of one condition differ by their seeds and answer the same items. Half
the width of the 95 % interval is

    half = max(sqrt(t² · Vs + h² · max(Vi - Vb, 0) / Vi), h)

    Vs  variance of the difference as the seeds show it
    Vi  variance over items
    Vb  part of Vi that comes from single networks; Vs contains it too, so it is subtracted once
    h   half the width of the interval over items
    t   Student's t with the seeds' degrees of freedom

Only the seeds' part is multiplied by the large t of few seeds. With t on both parts, more seeds
could find less.

Example: three seeds of each condition, unpaired, have 4 degrees of freedom and t = 2.78. With an
error of 0.020 over seeds, 0.010 over 1000 items and Vb = Vi / 2, half is
sqrt(0.0555² + 0.0196² / 2) = 0.057. With an error of 0.001 over seeds it is h = 0.0196.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

# The probability with which a "detectable" difference is found.
POWER = 0.8
# p below this is significant; intervals cover 1 - 0.05 = 95 %.
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

        An error of 0 means that all clusters or seeds agree, and only their number is known. p is
        then the sign test's: 2 of 2^n for n equal signs, which is 0.25 with 2 degrees of freedom.
        """
        if self.error == 0:
            return 1.0 if difference == 0 else 2.0**-self.freedom
        return float(2 * stats.t.sf(abs(difference) / self.error, self.freedom))

    def detectable(self, level: float) -> float:
        """Return the true difference whose p is below `level` with a probability of `POWER`."""
        # In units of the error, and back.
        return _detectable(self.half(level) / self.error, self.freedom) * self.error


class OverSeeds(NamedTuple):
    """Both parts of a difference's variance."""

    # √Vs and √Vi, with their degrees of freedom.
    seeds: Student
    items: Student
    # (Vi - Vb) / Vi, from 0 to 1: the share of the items' variance that more seeds do not reduce.
    beyond: float

    @property
    def variance(self) -> float:
        """Return Vs + Vi - Vb."""
        return self.seeds.error**2 + self.beyond * self.items.error**2

    def half(self, level: float) -> float:
        """Return half the width of the interval that covers all but `level`."""
        # h of the formula at the top of this module
        items = self.items.half(level)
        return max(math.hypot(self.seeds.half(level), math.sqrt(self.beyond) * items), items)

    def p(self, difference: float) -> float:
        """Return the two-sided p of `difference`: the level whose interval around it ends at 0."""
        # No variance over seeds: fall back to the sign test, but never below the p over items.
        if self.seeds.error == 0:
            return max(self.seeds.p(difference), self.items.p(difference))
        if difference == 0:
            return 1.0
        distance = abs(difference)
        # Below this p the root is not searched: the interval at 1e-12 excludes 0 already.
        tiny = 1e-12
        if self.half(tiny) <= distance:
            return tiny
        # The root is searched in log p, since p may have any order of magnitude.
        return math.exp(
            brentq(lambda log_p: self.half(math.exp(log_p)) - distance, math.log(tiny), 0.0)
        )

    def detectable(self, level: float) -> float | None:
        """Return the true difference whose p is below `level` with a probability of `POWER`.

        The degrees of freedom of both parts together are Satterthwaite's (1946):
        variance² / Σ(part² / freedom of the part). Return None if the seeds do not vary.
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
    """Return both parts of the variance of mean(second) - mean(first).

    `first` and `second` (seeds,) are the conditions' figures by seed. `items` has the error over
    items, and `own` is Vb / Vi, the share of that variance that comes from single networks.

    `is_paired` compares seed by seed. One seed gives both conditions the same first weights and
    order of documents, so their losses move together. Accuracies hardly do; unpaired, they have
    twice the degrees of freedom. The unit decides, never the result.
    """
    count = len(first)
    # One row of (seeds,) differences, or one row for each condition.
    by_seed = [second - first] if is_paired else [first, second]
    # Variance of a mean of `count` seeds; of the difference of two means if there are two rows.
    variance = math.fsum(float(values.var(ddof=1)) for values in by_seed) / count
    # An error below 1e-12 of the largest figure is rounding: the seeds agree.
    scale = float(np.abs([first, second]).max())
    error = math.sqrt(variance) if math.sqrt(variance) > 1e-12 * scale else 0.0
    seeds = Student(error, len(by_seed) * (count - 1))
    return OverSeeds(seeds, items, min(max(1.0 - own, 0.0), 1.0))


def _detectable(critical: float, freedom: float) -> float:
    """Return the shift of Student's t that exceeds `critical` with a probability of `POWER`.

    With many degrees of freedom and critical = 1.96 it is 1.96 + 0.84 = 2.8 standard errors.
    """

    # Only the upper tail: a difference that is found with the wrong sign does not count.
    def lacking(shift: float) -> float:
        return float(stats.nct.sf(critical, freedom, shift)) - POWER

    return brentq(lacking, 0.0, 4 * critical)
