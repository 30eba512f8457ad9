"""The number of cores that this process may use."""

import os

from common.errors import PipelineError

# A program that starts several stages at a time sets each one's share. No result depends on it.
SHARE = "PIPELINE_THREADS"


def cores() -> int:
    """Return PIPELINE_THREADS if it is set, else the number of cores that this process may use.

    Where the system does not report an affinity, as on macOS, that is the number of all cores.
    Raises PipelineError if the variable is not a whole number above 0.
    """
    share = os.environ.get(SHARE)
    if share is not None:
        # isascii too, since isdigit also accepts digits of other scripts and superscripts like ².
        if not (share.isascii() and share.isdigit() and int(share) > 0):
            raise PipelineError(
                f"{SHARE} is {share!r}: set it to a whole number above 0, or unset it"
            )
        return int(share)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
