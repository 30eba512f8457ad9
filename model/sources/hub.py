"""The Hugging Face hub: datasets and files at a commit, tried again where the network fails, held to what the hub states.

`datasets` and `huggingface_hub` are imported where they are used: it takes two seconds that only hub sources need.
"""

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from common.errors import PipelineError
from common.files import sha256_file
from model.params.fetch import HubFileSource, HubSource
from model.sources.pointers import HEAD_BYTES, require_data
from model.sources.record_readers import format_of, read_records
from model.sources.text_streams import COMPRESSIONS, open_content

SECONDS_BEFORE_RETRIES = (1, 2, 4, 8)
_LONGEST_REASON = 400  # characters

Result = TypeVar("Result")


class HubFile(NamedTuple):
    """A data file of a dataset: its path in the repository, and what the hub states of it at the commit.

    Of a large file (LFS) that is its SHA-256, of any other the id that git gives its content.
    """

    name: str
    location: str
    size: int
    sha256: str | None = None
    git_id: str | None = None
    modified: int | None = None  # of a local file, of which nothing is stated

    @property
    def identity(self) -> str:
        return f"{self.sha256} {self.git_id} {self.size} {self.modified}"


class HubDataset:
    """The data files of one split of a hub dataset at one commit, or of a local directory in the hub's layout."""

    def __init__(self, source: HubSource):
        self._source = source
        self._name = f"dataset {source.dataset}"
        self.files = with_retries(self._find_files, self._name, source.revision)

    def _find_files(self) -> list[HubFile]:
        import datasets
        import huggingface_hub

        # What they log they raise as well.
        datasets.logging.set_verbosity(datasets.logging.CRITICAL)
        huggingface_hub.logging.set_verbosity_error()
        source = self._source
        self._builder = datasets.load_dataset_builder(
            source.dataset, source.subset, revision=source.revision
        )
        self._features = self._builder.info.features
        found = self._builder.config.data_files or {}
        if source.split not in found:
            raise _failure(
                self._name,
                source.revision,
                f"no split {source.split}; it has {', '.join(map(str, found)) or 'none'}",
            )
        return [self._stated(str(location)) for location in found[source.split]]

    def _stated(self, location: str) -> HubFile:
        _require_in_repository(location, self._source)
        if location.startswith("hf://"):
            from huggingface_hub import HfFileSystem

            system = HfFileSystem()
            info = system.info(location)
            path: Any = system.resolve_path(location)  # in a repository: no dataset is in a bucket
            name, size, lfs = path.path_in_repo, info["size"], info["lfs"]
            if lfs is not None:
                return HubFile(name, location, size, sha256=lfs.sha256)
            return HubFile(name, location, size, git_id=info["blob_id"])
        path, root = Path(os.path.normpath(location)), Path(self._source.dataset).resolve()
        return HubFile(
            path.relative_to(root).as_posix(),
            location,
            path.stat().st_size,
            modified=path.stat().st_mtime_ns,
        )

    def download(self, file: HubFile, copy: Path) -> str:
        """Write the file's bytes to `copy`; return their SHA-256. They are those that the hub states, where it is one."""
        name = f"file {self._source.dataset}/{file.name}"

        def attempt() -> None:
            if file.location.startswith("hf://"):
                from huggingface_hub import HfFileSystem

                HfFileSystem().get_file(file.location, str(copy))
            else:
                shutil.copyfile(file.location, copy)
            if copy.stat().st_size != file.size:
                raise OSError(f"{copy.stat().st_size} bytes arrived of {file.size}")

        with_retries(attempt, name, self._source.revision, listed=True)
        actual = sha256_file(copy)
        if file.sha256 not in (None, actual):
            raise _failure(
                name,
                self._source.revision,
                f"its SHA-256 is {actual}, the hub states {file.sha256}",
            )
        if file.git_id not in (None, _git_id(copy)):
            raise _failure(
                name,
                self._source.revision,
                f"its git id is {_git_id(copy)}, the hub states {file.git_id}",
            )
        return actual

    def records(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Yield the records of all files in order, with room in `folder` for a copy of one at a time."""
        for file in self.files:
            copy = folder / PurePosixPath(file.name).name
            try:
                self.download(file, copy)
                yield from self.read(copy, f"{self._source.dataset}/{file.name}")
            finally:
                copy.unlink(missing_ok=True)

    def read(
        self, copy: Path, name: str, columns: list[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the records of a downloaded file; if `columns` are given, others may be left out.

        Parquet, arrow and JSON lines are read as local files are, any other format by `datasets`,
        which makes a record of each line of a text. `name` is what messages call the file.
        """
        kind = ".jsonl" if self._has_json_lines(copy, name) else format_of(copy)
        if kind in (".parquet", ".arrow", ".jsonl"):
            yield from read_records(copy, columns, name, kind)
            return
        from datasets.data_files import DataFilesDict, DataFilesList

        require_data(copy, name)
        if kind == ".txt":
            with open_content(copy, name):
                pass  # it is text by its first bytes
        # Columns are each file's own: datasets takes the first file's for all, and refuses others.
        self._builder.info.features = self._features
        only = DataFilesList([os.path.abspath(copy)], [()])
        self._builder.config.data_files = DataFilesDict({self._source.split: only})
        try:
            records = self._builder.as_streaming_dataset(split=self._source.split)
            for number, record in enumerate(records):
                if kind == ".txt" and number == 0:
                    record["text"] = record["text"].lstrip("\ufeff")
                yield record
        except Exception as error:  # whatever a reader of any format raises
            raise PipelineError(f"{name}: cannot be read to its end ({_reason(error)})") from None

    def _has_json_lines(self, copy: Path, name: str) -> bool:
        """Return whether a file named .json holds JSON lines, and not a list or a field of one object."""
        suffixes = copy.suffixes[:-1] if copy.suffix in COMPRESSIONS else copy.suffixes
        if suffixes[-1:] != [".json"] or getattr(self._builder.config, "field", None) is not None:
            return False
        require_data(copy, name)
        with open_content(copy, name) as (content, _):
            return content.read(HEAD_BYTES).lstrip().startswith(b"{")


def _require_in_repository(location: str, source: HubSource) -> None:
    """Refuse a data file of another repository, commit or folder than the source names: the commit does not pin it."""
    at_the_commit = location.startswith(f"hf://datasets/{source.dataset}@{source.revision}/")
    in_the_folder = "://" not in location and Path(location).resolve().is_relative_to(
        Path(source.dataset).resolve()
    )
    if not (at_the_commit or in_the_folder):
        raise _failure(
            f"dataset {source.dataset}",
            source.revision,
            f"{location} is not in the repository, so no commit says what it is",
        )


def download_hub_file(source: HubFileSource) -> Path:
    """Return the local path of a hub file, downloaded unless it is in the local Hugging Face cache."""
    import huggingface_hub

    def attempt() -> Path:
        return Path(
            huggingface_hub.hf_hub_download(
                source.repository, source.filename, revision=source.revision
            )
        )

    return with_retries(attempt, f"file {source.repository}/{source.filename}", source.revision)


def with_retries(
    attempt: Callable[[], Result], name: str, revision: str, listed: bool = False
) -> Result:
    """Return what `attempt` does, tried again at growing intervals unless its error cannot pass.

    `listed`: the hub has listed what is asked for, so that it cannot be found is an error that passes.
    """
    for seconds in (*SECONDS_BEFORE_RETRIES, None):
        try:
            return attempt()
        except _hub_errors() as error:
            if seconds is None or not _passes(error, listed):
                raise _failure(name, revision, _reason(error)) from None
            print(
                f"hub {name}: {_reason(error)}; again in {seconds} s", file=sys.stderr, flush=True
            )
            time.sleep(seconds)
    raise AssertionError("the last attempt returns or raises")


def _hub_errors() -> tuple[type[Exception], ...]:
    """What datasets and huggingface_hub raise for anything from a missing network to a missing split."""
    from huggingface_hub import errors

    return (
        OSError,
        ValueError,
        RuntimeError,
        errors.HTTPError,
        errors.EntryNotFoundError,
        errors.XetDownloadError,
    )


def _passes(error: Exception, listed: bool) -> bool:
    from huggingface_hub import errors, is_offline_mode

    # What becomes of a hub that does not answer, or not with the file: datasets keeps the error's name only.
    unanswered = isinstance(
        error, errors.LocalEntryNotFoundError
    ) or "LocalEntryNotFoundError" in str(error)
    if is_offline_mode() and (unanswered or isinstance(error, ConnectionError)):
        return False
    if isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError):
        return False
    if isinstance(error, FileNotFoundError | errors.EntryNotFoundError):
        return listed or unanswered
    return isinstance(error, OSError | RuntimeError | errors.HTTPError | errors.XetDownloadError)


def _git_id(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    """Return what an error says in one line: the lines behind its first where that is a title ("Couldn't cast")."""
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join([first, *others])[:_LONGEST_REASON] if first == "Couldn't cast" else first


def _failure(name: str, revision: str, reason: str) -> PipelineError:
    return PipelineError(
        f"hub {name} at {revision[:12]}: cannot be read ({reason}); check the network, or choose kind: wheel, files or tree"
    )
