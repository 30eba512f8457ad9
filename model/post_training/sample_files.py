"""Files of samples: how one checkpoint continues the prompts of params.yaml, a line for each.

The stage `samples` writes them and `report` reads them. `answer` is in order: a string is text, a
pair [a, b] is a fact token, and null is a reserved token. Names of tokens are never written.
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
    """A prompt and its continuation, which `stopped` at end of text or was `cut` at its limit."""

    prompt: Text
    answer: list[Text | _Pair | None]
    prompt_tokens: int = Field(gt=0)
    new_tokens: int = Field(ge=0)
    ended: Literal["stopped", "cut"]


def written(segments: list[str | MulFact | None]) -> list[str | list[int] | None]:
    """Return an answer's segments as `Sample.answer` stores them: a fact as the pair [a, b]."""
    return [
        [segment.a, segment.b] if isinstance(segment, MulFact) else segment for segment in segments
    ]


def write_samples(directory: Path, samples: list[Sample]) -> None:
    """Write one line of JSON for each sample."""
    write_jsonl(directory / FILE, [sample.model_dump() for sample in samples])


def read_samples(directory: Path) -> list[Sample]:
    """Read the file of `write_samples`; raise PipelineError if a line is not a sample."""
    return read_kept(directory / FILE, Sample)
