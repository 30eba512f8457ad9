"""Read datasets and files of the Hugging Face hub at a commit, verified with the hub's hashes.

Requests are repeated if the network fails. `datasets` and `huggingface_hub` are imported inside the
functions that use them, since their import takes two seconds.
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
# Characters of an error's reason that a message shows.
_LONGEST_REASON = 400

Result = TypeVar("Result")


class HubFile(NamedTuple):
    """A data file of a dataset: its path in the repository, its URL, its size in bytes, its hash.

    The hub states the SHA-256 of a large file (LFS), and git's id of any other file's content. It
    states nothing about a file of a local directory, which has its time of modification instead.
    """

    name: str
    location: str
    size: int
    sha256: str | None = None
    git_id: str | None = None
    modified: int | None = None

    @property
    def identity(self) -> str:
        """What is known of the content before it is downloaded, as one string."""
        return f"{self.sha256} {self.git_id} {self.size} {self.modified}"


class HubDataset:
    """The data files of one split of a hub dataset at one commit.

    A local directory in the hub's layout works as well. The order for each file is: list it with
    its hash, download it, compare size and hash, read its records.
    """

    def __init__(self, source: HubSource):
        self._source = source
        self._name = f"dataset {source.dataset}"
        self.files = with_retries(self._find_files, self._name, source.revision)

    def _find_files(self) -> list[HubFile]:
        import datasets
        import huggingface_hub

        # Both libraries also raise the errors that they log.
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
        """Return a data file with what the hub states about it; raise if no commit pins it."""
        _require_in_repository(location, self._source)
        if location.startswith("hf://"):
            from huggingface_hub import HfFileSystem

            system = HfFileSystem()
            info = system.info(location)
            # Typed as Any: a path may also be in a bucket, which no dataset is.
            path: Any = system.resolve_path(location)
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
        """Write the file's bytes to `copy`; return their SHA-256.

        Raises PipelineError if they have another hash than the hub states, or if the network fails
        for all attempts.
        """
        name = f"file {self._source.dataset}/{file.name}"

        def attempt() -> None:
            if file.location.startswith("hf://"):
                from huggingface_hub import HfFileSystem

                HfFileSystem().get_file(file.location, str(copy))
            else:
                shutil.copyfile(file.location, copy)
            # An OSError, so that a download that was cut off is repeated.
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
        """Yield the records of all files in order; `folder` holds a copy of one file at a time."""
        for file in self.files:
            copy = folder / PurePosixPath(file.name).name
            try:
                self.download(file, copy)
                yield from self.read(copy, f"{self._source.dataset}/{file.name}")
            # The next file needs the room.
            finally:
                copy.unlink(missing_ok=True)

    def read(
        self, copy: Path, name: str, columns: list[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the records of a downloaded file; if `columns` are given, others may be left out.

        Parquet, arrow and JSON lines are read like local files. `datasets` reads any other format;
        it makes a record of each line of a text. Messages call the file `name`.
        """
        kind = ".jsonl" if self._has_json_lines(copy, name) else format_of(copy)
        if kind in (".parquet", ".arrow", ".jsonl"):
            yield from read_records(copy, columns, name, kind)
            return
        from datasets.data_files import DataFilesDict, DataFilesList

        require_data(copy, name)
        if kind == ".txt":
            # Opening it checks that its first bytes are text.
            with open_content(copy, name):
                pass
        # Let each file have columns of its own: by default datasets takes the first file's for all
        # and refuses others.
        self._builder.info.features = self._features
        only = DataFilesList([os.path.abspath(copy)], [()])
        self._builder.config.data_files = DataFilesDict({self._source.split: only})
        try:
            records = self._builder.as_streaming_dataset(split=self._source.split)
            for number, record in enumerate(records):
                if kind == ".txt" and number == 0:
                    record["text"] = record["text"].lstrip("\ufeff")
                yield record
        # The readers of the many formats raise errors of all kinds.
        except Exception as error:
            raise PipelineError(f"{name}: cannot be read to its end ({_reason(error)})") from None

    def _has_json_lines(self, copy: Path, name: str) -> bool:
        """Return whether a .json file holds JSON lines, not one list or an object with a field."""
        suffixes = copy.suffixes[:-1] if copy.suffix in COMPRESSIONS else copy.suffixes
        if suffixes[-1:] != [".json"] or getattr(self._builder.config, "field", None) is not None:
            return False
        require_data(copy, name)
        with open_content(copy, name) as (content, _):
            return content.read(HEAD_BYTES).lstrip().startswith(b"{")


def _require_in_repository(location: str, source: HubSource) -> None:
    """Raise PipelineError for a data file outside the repository at the commit, or the folder.

    A dataset may name files elsewhere, which no commit pins.
    """
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
    """Return the local path of a hub file; download it unless the local cache has it."""
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
    """Return the result of `attempt`; repeat it at growing intervals while its error is temporary.

    Attempts are at 0, 1, 3, 7 and 15 seconds, besides their own time. With `listed`, the hub has
    listed the file, so "not found" is temporary too. Raises PipelineError after the last attempt,
    or at once if the error is not temporary.
    """
    # None marks the last attempt.
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
    """Return the errors of datasets and huggingface_hub, from no network to a missing split."""
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
    """Return whether an error is temporary, so that another attempt may succeed."""
    from huggingface_hub import errors, is_offline_mode

    # LocalEntryNotFoundError: the hub did not answer, or not with the file, and the cache lacks it.
    # datasets keeps only the name of this error.
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
    """Return git's id of a file's content: the SHA-1 of `blob SIZE`, a zero byte and all bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _reason(error: Exception) -> str:
    """Return an error's message in one line, of at most 400 characters.

    Usually this is the first line. If that is only a title ("Couldn't cast"), it is all lines.
    """
    first, *others = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join([first, *others])[:_LONGEST_REASON] if first == "Couldn't cast" else first


def _failure(name: str, revision: str, reason: str) -> PipelineError:
    return PipelineError(
        f"hub {name} at {revision[:12]}: cannot be read ({reason}); check the network, or choose "
        "kind: wheel, files or tree"
    )
