"""Loss spikes: a step whose loss stands far above those just before it.

They precede divergence, and a run that recovers from one may still be worse for it; the usual causes are a learning rate at
its limit, a broken shard and numbers of too few bits.
"""

import statistics
from collections import deque
from collections.abc import Iterable

_WINDOW = 100  # steps
_DEVIATIONS = 10.0
_LEAST_RISE = 0.5  # nats a token


class SpikeDetector:
    """Judges each step's loss by the median of the 100 before it and their median absolute deviation.

    A spike is more than ten standard deviations above (1.4826 × the deviation, as for a normal distribution), and at least
    half a nat. Both measures shrug off the spikes in the window itself.
    """

    def __init__(self, recent: Iterable[float] = (), count: int = 0):
        self.recent = deque(recent, maxlen=_WINDOW)
        self.count = count

    def hear(self, loss: float) -> float | None:
        """Take in a step's mean loss in nats a token; return the median before it where it is a spike, else None."""
        usual = None
        if len(self.recent) == _WINDOW:
            median = statistics.median(self.recent)
            deviation = 1.4826 * statistics.median(abs(value - median) for value in self.recent)
            if loss - median > max(_DEVIATIONS * deviation, _LEAST_RISE):
                self.count += 1
                usual = median
        self.recent.append(loss)
        return usual
