"""Generated solutions, as the stage that generates them keeps them and the one that judges them reads them.

A line of the file has the fields of `Generation`. In its `segments`, strings are text, pairs [a, b] fact tokens, and null is
any other token without text; so no name of a token is in it.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from common.errors import PipelineError
from common.files import read_jsonl, write_jsonl
from model.tokens.facts import MUL_FACTS, MulFact

Ended = Literal["stopped", "cut", "too_long"]
_FACTS = {(fact.a, fact.b): fact for fact in MUL_FACTS}


class Generation(NamedTuple):
    """A problem, its reference solution, the cluster that it belongs to, and what was generated, in order.

    It `stopped` at end of text, was `cut` at `most_new_tokens`, or the prompt was `too_long` to be asked.
    """

    question: str
    answer: str
    cluster: str
    prompt_tokens: int
    new_tokens: int
    most_new_tokens: int
    ended: Ended
    segments: list[str | MulFact | None]


def write_generations(path: Path, generations: list[Generation]) -> None:
    write_jsonl(
        path,
        [
            generation._asdict() | {"segments": _written(generation.segments)}
            for generation in generations
        ],
    )


def read_generations(path: Path) -> list[Generation]:
    """Return what `write_generations` wrote to a checksummed directory; PipelineError for anything else."""
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
            raise ValueError("a segment is none")
        generation = Generation(**row | {"segments": segments})
        texts, counts = generation[:3], generation[3:6]
        if not all(isinstance(text, str) for text in texts) or not all(
            type(count) is int and count >= 0 for count in counts
        ):
            raise ValueError("a text or a number of tokens is none")
        if generation.ended not in get_args(Ended) or (
            generation.ended == "too_long" and (segments or generation.new_tokens)
        ):
            raise ValueError(f"ended {generation.ended!r}, with {len(segments)} segments")
    except (KeyError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{where}: not a generation ({error!r}); run dvc repro on the stage that wrote it"
        ) from None
    return generation
