"""Read copies of a model: check SHA256SUMS, ignore the files that the hub's client adds."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from common.errors import PipelineError, printable
from common.files import CHECKSUMS, read_checksums, verified

# Names that the hub and its client put beside a model's files.
OF_THE_HUB = (".gitattributes", ".cache")


def model_files(directory: Path) -> Mapping[str, Path]:
    """Return a directory's files by name, without those that the hub and its client add."""
    files = {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    return {
        name: path for name, path in files.items() if PurePosixPath(name).parts[0] not in OF_THE_HUB
    }


def verified_copy(directory: Path) -> Path:
    """Return a model's directory, checked against its SHA256SUMS if it has one.

    Raises PipelineError if a file differs from SHA256SUMS, is missing or was added.
    """
    if not (directory / CHECKSUMS).is_file():
        return directory
    sums = read_checksums(directory)
    for name in sorted((sums.keys() | model_files(directory).keys()) - {CHECKSUMS}):
        file = directory / name
        if name not in sums:
            raise PipelineError(
                f"{printable(str(file))}: {CHECKSUMS} beside it does not list it; move it out of "
                f"{directory}"
            )
        verified(file, {file.name: sums[name]})
    return directory
