"""How a stage ends: done, with its share done, or with one line for the person who runs it."""

import gc
import sys
from collections.abc import Callable

from common.share import ShareDone


class PipelineError(Exception):
    """Something a person has to mend; the message says what, where and what to do."""


def printable(text: str) -> str:
    """Return `text` in one line, with control characters written out: \\x1b, \\n."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def run_stage(main: Callable[[], None]) -> None:
    """Call `main`; print a PipelineError to stderr and exit with 1, let other errors propagate.

    Raises audit events when the stage begins and when it or its share has succeeded, for the seal
    (pipeline/seal/sealed_stage.py).
    """
    gc.enable()  # off since stages/__init__.py, for the imports
    gc.freeze()
    sys.audit("pipeline.stage_begins")
    try:
        main()
        sys.audit("pipeline.stage_done")
    except ShareDone:
        sys.audit("pipeline.share_done")
    except PipelineError as error:
        sys.exit("\n".join(f"error: {printable(line)}" for line in str(error).splitlines()))
