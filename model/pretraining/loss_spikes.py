"""Loss spikes: steps whose loss is far above the losses just before.

A spike often precedes divergence, and a run that recovers from one may still end worse. The usual
causes are a learning rate at its limit, a broken shard, and a number format with too few bits.
"""

import statistics
from collections import deque
from collections.abc import Iterable

_WINDOW = 100  # steps
_DEVIATIONS = 10.0
_LEAST_RISE = 0.5  # nats per token


class SpikeDetector:
    """Compare each step's loss with the median and the deviation of the 100 losses before it.

    A spike is more than ten standard deviations above the median, and more than half a nat. The
    standard deviation is estimated as 1.4826 × the median absolute deviation, the factor for a
    normal distribution. Spikes in the window hardly change either measure. Example: with a median
    of 3.20 and a deviation of 0.02, a loss above 3.70 is a spike, since 10 × 0.02 is below 0.5.
    """

    def __init__(self, recent: Iterable[float] = (), count: int = 0):
        self.recent = deque(recent, maxlen=_WINDOW)
        self.count = count

    def hear(self, loss: float) -> float | None:
        """Add a step's mean loss in nats per token; return the median before it if it is a spike.

        The first 100 losses only fill the window.
        """
        usual = None
        if len(self.recent) == _WINDOW:
            median = statistics.median(self.recent)
            deviation = 1.4826 * statistics.median(abs(value - median) for value in self.recent)
            if loss - median > max(_DEVIATIONS * deviation, _LEAST_RISE):
                self.count += 1
                usual = median
        self.recent.append(loss)
        return usual
