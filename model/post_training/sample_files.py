"""Files of samples: what one checkpoint makes of the prompts of params.yaml, a line for each.

`samples` writes them, and `report` reads them. In `answer`, strings are text, pairs [a, b] are fact
tokens, and null is any other token without text, so no token's name is in the file.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from common.files import write_jsonl
from common.sections import Section
from model.data.conversations import read_kept
from model.data.record_text import Text
from model.tokens.facts import MulFact

FILE = "samples.jsonl"
_Digit = Annotated[int, Field(ge=1, le=9)]
_Pair = Annotated[list[_Digit], Field(min_length=2, max_length=2)]


class Sample(Section):
    """A prompt and what followed it; the answer `stopped` at end of text, or was `cut`."""

    prompt: Text
    answer: list[Text | _Pair | None]
    prompt_tokens: int = Field(gt=0)
    new_tokens: int = Field(ge=0)
    ended: Literal["stopped", "cut"]


def written(segments: list[str | MulFact | None]) -> list[str | list[int] | None]:
    """Return what `Sample.answer` has for the segments of an answer."""
    return [
        [segment.a, segment.b] if isinstance(segment, MulFact) else segment for segment in segments
    ]


def write_samples(directory: Path, samples: list[Sample]) -> None:
    write_jsonl(directory / FILE, [sample.model_dump() for sample in samples])


def read_samples(directory: Path) -> list[Sample]:
    """Return what `write_samples` wrote to a checksummed directory, or raise PipelineError."""
    return read_kept(directory / FILE, Sample)
