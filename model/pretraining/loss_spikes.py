"""Loss spikes: steps whose loss is far above the losses just before.

They precede divergence, and a run that recovers from one may still be worse for it. The usual
causes are a learning rate at its limit, a broken shard, and a number format of too few bits.
"""

import statistics
from collections import deque
from collections.abc import Iterable

_WINDOW = 100  # steps
_DEVIATIONS = 10.0
_LEAST_RISE = 0.5  # nats a token


class SpikeDetector:
    """Compares each step's loss with the median of the 100 before it, and their deviation.

    A spike is more than ten standard deviations above the median, and at least half a nat. The
    standard deviation is 1.4826 × the median absolute deviation, as for a normal distribution.
    Spikes in the window itself hardly change either measure.
    """

    def __init__(self, recent: Iterable[float] = (), count: int = 0):
        self.recent = deque(recent, maxlen=_WINDOW)
        self.count = count

    def hear(self, loss: float) -> float | None:
        """Add a step's mean loss in nats per token; return the median before it, if a spike."""
        usual = None
        if len(self.recent) == _WINDOW:
            median = statistics.median(self.recent)
            deviation = 1.4826 * statistics.median(abs(value - median) for value in self.recent)
            if loss - median > max(_DEVIATIONS * deviation, _LEAST_RISE):
                self.count += 1
                usual = median
        self.recent.append(loss)
        return usual
