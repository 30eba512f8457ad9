"""The errors that reading a damaged or hand-edited project file may raise."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from common.yaml_file import YamlFault

# JSONDecodeError is a ValueError.
FAULTS = (AttributeError, KeyError, OSError, TypeError, ValueError, YamlFault)


@contextmanager
def told_in_one_line(command: str) -> Iterator[None]:
    """Exit with `error: COMMAND: …`, in one line, if a file cannot be parsed."""
    try:
        yield
    except FAULTS as error:
        sys.exit(f"error: {command}: " + " ".join(str(error).split()))
