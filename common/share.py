"""A share: the pieces of one phase of a stage that one of several processes makes.

`meta: {spreads: [PHASE, …]}` in dvc.yaml names the phases of a stage whose pieces any process may
make. A process that is started with PIPELINE_SHARE="PHASE K/N" makes the pieces K, K + N, K + 2 N,
… of that phase in the stage's scratch folder, and ends. The stage, run afterwards without the
variable, finds these pieces finished, makes those that are missing, and writes the outputs.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

SHARE = "PIPELINE_SHARE"
_FORM = re.compile(r"(?P<phase>\S+) (?P<number>[0-9]+)/(?P<total>[0-9]+)")
Job = TypeVar("Job")


class ShareDone(BaseException):
    """Raised when this process has made its share of a stage's pieces.

    Not an Exception, so that no `except Exception` goes on to the outputs.
    """


class Share(NamedTuple):
    """Share `number` of `total` of the phase `phase`; numbers begin with 0."""

    phase: str
    number: int
    total: int

    def part(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Return those of the phase's `jobs` that are in this share."""
        return jobs[self.number :: self.total]


def share_in(environment: Mapping[str, str]) -> Share | None:
    """Return the share that PIPELINE_SHARE names, None without the variable.

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
