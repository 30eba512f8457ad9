"""Hypothesis strategies that damage valid bytes and valid JSON, as a stranger's files may be."""

import copy
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from common.errors import PipelineError

# Values that readers have failed on: text that is no Unicode, no number or no name, and numbers of
# any size.
ODD_TEXTS = (
    "",
    "\0",
    "\n",
    "a\nb",
    "\x1b[31m",
    "\u2028",
    "\ud800",
    "²",
    "٣",
    "../../x",
    "/etc/passwd",
    "-rf",
    "<script>",
    "9" * 5000,
)
ODD_NUMBERS = (-1, 0, 1, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e308, float("inf"), float("nan"))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(ODD_NUMBERS)
    | st.sampled_from(ODD_TEXTS)
    | st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)

_FACTOR = int(os.environ.get("FUZZ", "1"))


def fuzz(examples: int) -> settings:
    """Return a test's settings: the same `examples` each time; with FUZZ=20, 20 × as many new."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    common = {"deadline": None, "database": None, "suppress_health_check": checks}
    return settings(max_examples=examples * _FACTOR, derandomize=_FACTOR == 1, **common)


def places(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of each value inside a JSON value; the empty path first."""
    yield path
    children = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, child in children:
        yield from places(child, (*path, key))


@st.composite
def changed_value(draw, value: Any, most: int = 2) -> Any:
    """Draw a JSON value with up to `most` parts replaced, removed, added or doubled."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, most))):
        *parents, last = ("whole", *draw(st.sampled_from(list(places(value)))))
        holder = box = {"whole": value}
        for key in parents:
            holder = holder[key]
        how = draw(st.sampled_from(("replace", "replace", "replace", "remove", "add")))
        if how == "add" and isinstance(holder[last], dict | list):
            new = draw(VALUES)
            if isinstance(holder[last], dict):
                holder[last][draw(st.sampled_from(ODD_TEXTS))] = new
            else:
                holder[last].append(new)
        elif how == "remove" and parents:
            del holder[last]
        else:
            holder[last] = draw(VALUES)
        value = box["whole"]
    return value


@st.composite
def changed_bytes(draw, content: bytes, most: int = 4) -> bytes:
    """Draw bytes with up to `most` changes: flips, overwrites, cuts, insertions, cut ends."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, len(changed)))
        end = min(len(changed), start + draw(st.integers(0, 16)))
        how = draw(st.sampled_from(("flip", "overwrite", "remove", "insert", "cut")))
        if how == "flip" and start < len(changed):
            changed[start] ^= 1 << draw(st.integers(0, 7))
        elif how == "overwrite":
            changed[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
        elif how == "remove":
            del changed[start:end]
        elif how == "insert":
            changed[start:start] = draw(st.binary(max_size=16))
        else:
            del changed[start:]
    return bytes(changed)


@contextmanager
def within(seconds: int, gigabytes: int) -> Iterator[None]:
    """Raise in the block if it takes more than `seconds`, or `gigabytes` of additional memory."""
    import resource

    def stop(*_) -> None:
        raise TimeoutError(f"not done within {seconds} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    previous = signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(
        resource.RLIMIT_AS, (pages * resource.getpagesize() + gigabytes * 2**30, before[1])
    )
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
        resource.setrlimit(resource.RLIMIT_AS, before)


def reads_or_says_why(read: Callable[[], Any], name: str, lines: int = 1) -> bool:
    """Return whether `read` succeeds.

    If not, assert that its error has at most `lines` lines, each with `name`.
    """
    said = None
    try:
        read()
    except PipelineError as error:
        said = str(error)
    if said is None:
        return True
    assert 1 <= len(said.splitlines()) <= lines, said
    assert all(name in line for line in said.splitlines()), said
    return False
