"""A share: the part of a stage's work that one of several processes does.

A phase of a stage is split into pieces. `meta: {spreads: [PHASE, …]}` in dvc.yaml lists the phases
whose pieces any process may make. The protocol:

1. Start N processes of the stage with PIPELINE_SHARE="PHASE 0/N", "PHASE 1/N", …
2. Process K makes the pieces K, K + N, K + 2 N, … in the stage's scratch folder, and ends. With
   3 processes and 8 pieces, process 1 makes pieces 1, 4 and 7.
3. Run the stage without the variable. It finds the finished pieces, makes the missing ones, and
   writes the outputs.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

SHARE = "PIPELINE_SHARE"
_FORM = re.compile(r"(?P<phase>\S+) (?P<number>[0-9]+)/(?P<total>[0-9]+)")
Job = TypeVar("Job")


class ShareDone(BaseException):
    """Raised when this process has made its share of a stage's pieces.

    It derives from BaseException, so that `except Exception` cannot catch it and continue to the
    outputs.
    """


class Share(NamedTuple):
    """Share `number` of `total` of the phase `phase`; numbers begin with 0."""

    phase: str
    number: int
    total: int

    def part(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Return the phase's `jobs` in this share: every `total`-th from `number` on."""
        # Shares differ by at most one job.
        return jobs[self.number :: self.total]


def share_in(environment: Mapping[str, str]) -> Share | None:
    """Return the share that PIPELINE_SHARE names, or None if the variable is not set.

    Raises ValueError if it does not have the form PHASE K/N with K below N.
    """
    text = environment.get(SHARE)
    if text is None:
        return None
    found = _FORM.fullmatch(text)
    if found is None or int(found["number"]) >= int(found["total"]):
        raise ValueError(
            f"{SHARE} is {text!r}: set it to PHASE K/N, share K of N counted from 0, or unset it"
        )
    return Share(found["phase"], int(found["number"]), int(found["total"]))
