"""How a stage ends: with success, with its share of the work done, or with an error message."""

import gc
import sys
from collections.abc import Callable

from common.share import ShareDone


class PipelineError(Exception):
    """An error that the user can fix. The message says what is wrong, where, and what to do."""


def printable(text: str) -> str:
    """Return `text` as one line, with control characters escaped as \\x1b or \\n.

    A file's content in a message can so neither forge lines nor control a terminal.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def run_stage(main: Callable[[], None]) -> None:
    """Call `main`; print a PipelineError to stderr and exit with 1.

    Other errors propagate. Audit events report to the seal (pipeline/seal/sealed_stage.py) that the
    stage begins, and that it or its share has succeeded.
    """
    # stages/__init__.py turned garbage collection off, which makes imports faster. Freezing keeps
    # the imported objects out of all later collections.
    gc.enable()
    gc.freeze()
    sys.audit("pipeline.stage_begins")
    try:
        main()
        sys.audit("pipeline.stage_done")
    except ShareDone:
        sys.audit("pipeline.share_done")
    except PipelineError as error:
        sys.exit("\n".join(f"error: {printable(line)}" for line in str(error).splitlines()))
