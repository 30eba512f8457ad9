"""What reading a project's files raises if one is not as DVC or its writer left it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from common.yaml_file import YamlFault

# JSONDecodeError is a ValueError.
FAULTS = (AttributeError, KeyError, OSError, TypeError, ValueError, YamlFault)


@contextmanager
def told_in_one_line(command: str) -> Iterator[None]:
    """Exit with `error: COMMAND: …`, in one line, where a file cannot be understood."""
    try:
        yield
    except FAULTS as error:
        sys.exit(f"error: {command}: " + " ".join(str(error).split()))
