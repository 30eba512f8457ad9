"""How every checkpoint continues the prompts of params.yaml, prepared for the report.

A web page drops white space and characters that draw nothing. Here each becomes a visible mark.
"""

from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple

from common.errors import PipelineError
from model.post_training.sample_files import Sample, read_samples
from model.text.characters import settled

_NEW_LINE, _TAB, _SPACE = "↵", "⇥", "␣"
_END, _GOES_ON, _NO_TEXT = "⟨end of text⟩", "…", "⟨no text⟩"


class Piece(NamedTuple):
    """A part of a text. A `mark` stands for an invisible character, a `fact` for a fact token."""

    kind: Literal["text", "mark", "fact"]
    text: str


class Prompt(NamedTuple):
    """One prompt and its answers: answers[step][condition] is a list of pieces."""

    pieces: list[Piece]
    answers: list[list[list[Piece]]]


class Samples(NamedTuple):
    """All prompts with the answers of one seed's checkpoints."""

    seed: int
    steps: list[int]
    # Conditions that are shown.
    conditions: list[str]
    # Conditions that are not shown, each with the condition whose answers are the same.
    same: dict[str, str]
    prompts: list[Prompt]


def sampled(
    folder: Path,
    conditions: list[str],
    seed: int,
    steps: list[int],
    prompts: list[str],
    twins: dict[str, str],
) -> Samples:
    """Return the samples of one seed's checkpoints.

    `twins` maps a condition to an earlier one with the same pretraining. Raises PipelineError if
    the samples are of other prompts.
    """
    found = {
        condition: [
            _read(folder / condition / f"seed_{seed}" / f"step_{step}", prompts) for step in steps
        ]
        for condition in conditions
    }
    same = {name: other for name, other in twins.items() if found[name] == found[other]}
    shown = [condition for condition in conditions if condition not in same]
    table = [
        Prompt(
            visible(prompt),
            [
                [shown_answer(found[condition][step][place]) for condition in shown]
                for step in range(len(steps))
            ],
        )
        for place, prompt in enumerate(prompts)
    ]
    return Samples(seed, steps, shown, same, table)


def _read(directory: Path, prompts: list[str]) -> list[Sample]:
    samples = read_samples(directory)
    if [sample.prompt for sample in samples] != prompts:
        raise PipelineError(
            f"{directory}: not the samples of params.yaml's prompts; run dvc repro samples"
        )
    return samples


def shown_answer(sample: Sample) -> list[Piece]:
    """Return the text after the prompt in pieces, and a mark that shows how it ended."""
    pieces: list[Piece] = []
    for place, segment in enumerate(sample.answer):
        if isinstance(segment, str):
            # A space at the edge of the text is marked; one beside a token without text is not.
            is_first, is_last = place == 0, place == len(sample.answer) - 1
            pieces += visible(segment, " " if is_first else "-", " " if is_last else "-")
        elif segment is None:
            pieces.append(Piece("mark", _NO_TEXT))
        else:
            a, b = segment
            pieces.append(Piece("fact", f"{a} × {b} = {a * b}"))
    return [*pieces, Piece("mark", _END if sample.ended == "stopped" else _GOES_ON)]


def visible(text: str, before: str = " ", after: str = " ") -> list[Piece]:
    """Return `text` in pieces, with a mark for each character that a page would not show.

    These are line breaks, tabs, characters that draw nothing, and spaces next to white space.
    `before` and `after` are the characters around the text: "a  b " gives "a", "␣␣", "b", "␣".
    """
    # known[i + 1] is text[i], so each character is seen with both neighbours.
    known = f"{before}{settled(text)}{after}"
    marks = [
        _mark(each, seen, left.isspace() or right.isspace())
        for each, left, seen, right in zip(text, known, known[1:], known[2:], strict=False)
    ]
    pieces = []
    for is_text, run in groupby(zip(text, marks, strict=True), key=lambda pair: pair[1] is None):
        characters = "".join(each if mark is None else mark for each, mark in run)
        pieces.append(Piece("text" if is_text else "mark", characters))
    return pieces


def _mark(character: str, known: str, is_beside_space: bool) -> str | None:
    """Return the mark for a character, or None if a page shows it.

    `known` is the same character as `settled` returns it (model/text/characters.py).
    """
    if character == " ":
        return _SPACE if is_beside_space else None
    if character in "\n\t":
        return _NEW_LINE if character == "\n" else _TAB
    return None if known.isprintable() else character.encode("unicode_escape").decode()
