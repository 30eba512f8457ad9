"""Copies of a model: their files without what the hub and its client add, and their SHA256SUMS."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from common.errors import PipelineError, printable
from common.files import CHECKSUMS, read_checksums, verified

# What the hub and its client put beside a model's files.
OF_THE_HUB = (".gitattributes", ".cache")


def model_files(directory: Path) -> Mapping[str, Path]:
    """Return the files of a directory by name, without what the hub and its client add."""
    files = {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    return {
        name: path for name, path in files.items() if PurePosixPath(name).parts[0] not in OF_THE_HUB
    }


def verified_copy(directory: Path) -> Path:
    """Return a model's directory, which may have no SHA256SUMS.

    Raises PipelineError if a file is not as SHA256SUMS has it, lacks or was added.
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
