"""GSM8K's problems (Cobbe et al. 2021) as text, with and without calculator annotations."""

import re
from collections.abc import Iterable, Iterator

_CALCULATION = re.compile(r"<<[^<>]*>>")


def without_calculations(solution: str) -> str:
    """Return `48/2 = <<48/2=24>>24` as `48/2 = 24`."""
    return _CALCULATION.sub("", solution)


def evaluated_texts(problems: Iterable[dict[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Yield each problem as a context and its endings, for model/data/contamination.py.

    The endings are the solution with and without annotations, since a copy of the problem may have
    either.
    """
    for problem in problems:
        solution = problem["answer"]
        yield problem["question"], [solution, without_calculations(solution)]
