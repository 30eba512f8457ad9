"""Files of generated solutions, which `generate` writes and later stages read.

Each line has the fields of `Generation`. `segments` are the answer in order: a string is text, a
pair [a, b] is a fact token, and null is a reserved token. Names of tokens are never written, so a
name in the file is text that the model wrote:

    ["6 × 9 is ", [6, 9], ", so the answer is\\n#### 54"]
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from common.errors import PipelineError
from common.files import read_jsonl, write_jsonl
from model.tokens.facts import MUL_FACTS, MulFact

Ended = Literal["stopped", "cut", "too_long"]
_FACTS = {(fact.a, fact.b): fact for fact in MUL_FACTS}


class Generation(NamedTuple):
    """A problem and the solution that a model generated."""

    question: str
    # The reference solution.
    answer: str
    # Problems of one cluster are not independent (model/statistics/rates.py).
    cluster: str
    prompt_tokens: int
    new_tokens: int
    most_new_tokens: int
    # "stopped" at end of text, "cut" at `most_new_tokens`, or "too_long": the prompt did not fit
    # and was not asked.
    ended: Ended
    segments: list[str | MulFact | None]


def write_generations(path: Path, generations: list[Generation]) -> None:
    """Write one line of JSON for each generation."""
    write_jsonl(
        path,
        [
            generation._asdict() | {"segments": _written(generation.segments)}
            for generation in generations
        ],
    )


def read_generations(path: Path) -> list[Generation]:
    """Read a file of `write_generations`; raise PipelineError if a line is not a generation."""
    return [_read(row, f"{path}:{number}") for number, row in enumerate(read_jsonl(path), start=1)]


def _written(segments: list[str | MulFact | None]) -> list[str | list[int] | None]:
    return [
        [segment.a, segment.b] if isinstance(segment, MulFact) else segment for segment in segments
    ]


def _read(row: dict[str, Any], where: str) -> Generation:
    try:
        segments = [
            _FACTS[tuple(segment)] if isinstance(segment, list) else segment
            for segment in row["segments"]
        ]
        if not all(segment is None or isinstance(segment, str | MulFact) for segment in segments):
            raise ValueError("a segment is not text, a fact or null")
        generation = Generation(**row | {"segments": segments})
        # question, answer, cluster; then the three numbers of tokens
        texts, counts = generation[:3], generation[3:6]
        if not all(isinstance(text, str) for text in texts) or not all(
            type(count) is int and count >= 0 for count in counts
        ):
            raise ValueError("a text is not a string, or a number of tokens is not a whole number")
        if generation.ended not in get_args(Ended) or (
            generation.ended == "too_long" and (segments or generation.new_tokens)
        ):
            raise ValueError(f"ended {generation.ended!r}, with {len(segments)} segments")
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{where}: not a generation ({error!r}); run dvc repro on the stage that wrote it"
        ) from None
    return generation
