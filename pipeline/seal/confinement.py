"""A sealed stage's temporary files, the files that the kernel lets it open, and its imports."""

import atexit
import contextlib
import importlib.abc
import importlib.machinery
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import CodeType

from common.files import partial_of
from pipeline.declared.code_imports import CODE, WATCHER
from pipeline.declared.dvc_yaml import PARAMS, Instance, below
from pipeline.declared.settings import SETTINGS
from pipeline.seal import landlock, seccomp
from pipeline.seal.start import OwnPackages

# The system's own folders. People's data are in others: /home, /mnt, /data, /tmp.
_SYSTEM = {
    "Library", "System", "bin", "dev", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix",
    "opt", "proc", "run", "sbin", "snap", "sys", "usr",
}  # fmt: skip
_WRITABLE_SYSTEM = {"dev", "proc"}
# CUDA's multi-process service, if it runs.
_GPU_SERVICE = Path("/tmp/nvidia-mps")
# Without this index, every stage that draws would read each font of the machine.
_FONT_INDEX = Path("/var/cache/fontconfig")


def make_partials(root: Path, instance: Instance) -> list[Path]:
    """Create the temporary siblings of the outputs, and return their paths.

    They must exist first, because a rule of Landlock names an existing path. An output whose name
    has a suffix is a file, any other is a directory.
    """
    partials = []
    for out in instance.outputs:
        partial = root / partial_of(out)
        partial.parent.mkdir(parents=True, exist_ok=True)
        if Path(out).suffix:
            partial.touch()
        else:
            partial.mkdir(exist_ok=True)
        partials.append(partial)
    _remove_at_exit(partials)
    return partials


def _remove_at_exit(paths: list[Path]) -> None:
    process = os.getpid()

    def remove() -> None:
        # A forked child inherits this function.
        for path in paths if os.getpid() == process else []:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    atexit.register(remove)


def confine(
    root: Path, inputs: list[str], writable: list[Path], network: bool, sockets: bool
) -> bool:
    """Restrict what this process may open from now on; return whether the kernel enforces it.

    A stage with `network` may also read outside the repository: it verifies its inputs by content.
    Without `sockets`, no process of the stage may open a socket that leads off this machine.
    """
    readable = [*_readable(root, inputs), *_libraries(root)]
    if network:
        _make_caches(root)
        # Landlock gives rights to a folder and all below it. If the repository lies below /tmp,
        # all of /tmp would include the repository, so temporary files get a folder of their own.
        if root.is_relative_to(tempfile.gettempdir()):
            writable = [*writable, _private_directory()]
        writable = [*writable, *_outside(root)]
    else:
        directory = _private_directory()
        os.environ["HOME"] = str(directory)
        writable = [*writable, directory, _GPU_SERVICE]
        readable.append(_FONT_INDEX)
        for path in _outside(root):
            if path.parts[1] in _SYSTEM:
                (writable if path.parts[1] in _WRITABLE_SYSTEM else readable).append(path)
    if not sockets:
        seccomp.refuse_sockets()
    return landlock.restrict(readable, writable, sockets)


def _readable(root: Path, inputs: list[str]) -> list[Path]:
    paths = [root / name for name in inputs]
    # DVC may link files from its cache by symlinks.
    links = [
        path
        for entry in paths
        for path in (entry, *(entry.rglob("*") if entry.is_dir() else ()))
        if path.is_symlink()
    ]
    return [*paths, *(path.resolve() for path in links), root / PARAMS, root / WATCHER]


def _libraries(root: Path) -> list[Path]:
    """Return the folders of Python, of its libraries, and of what is installed beside them."""
    folders = {
        root / ".venv",
        *map(Path, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)),
    } - {Path()}
    places = {
        Path(sys.executable).resolve(),
        *map(Path, (sys.prefix, sys.base_prefix, sys.base_exec_prefix)),
    }
    folders |= {place for place in places if not root.is_relative_to(place)}
    # A cluster keeps its software below one folder of the root, such as /sw or /apps. A folder that
    # also holds the home, the repository or temporary files has data, and is left out.
    home = Path(os.path.expanduser("~")).resolve()
    for place in places:
        top = Path(*place.resolve().parts[:2])
        if not any(
            path.is_relative_to(top) for path in (home, root, Path(tempfile.gettempdir()).resolve())
        ):
            folders.add(top)
    return sorted(folders)


def _outside(root: Path) -> list[Path]:
    """Return all folders and files beside the repository, at each level above it.

    Landlock cannot take one folder out of another, so the siblings are allowed one by one. For
    /home/ann/repo:

        /home/ann   everything but repo
        /home       everything but ann
        /           everything but home

    Links are left out: their targets have names of their own, and may be the repository. A folder
    that cannot be listed, such as a cluster's /home, is skipped.
    """
    paths = []
    for folder in root.parents:
        leads_here = root.parts[len(folder.parts)]
        try:
            entries = list(os.scandir(folder))
        except PermissionError:
            continue
        for entry in entries:
            with contextlib.suppress(OSError):  # a mount whose server is gone
                if entry.name != leads_here and not entry.is_symlink():
                    paths.append(Path(entry.path))
    return paths


def _private_directory() -> Path:
    """Create an empty folder for temporary files, also used as a home without settings."""
    directory = tempfile.mkdtemp(prefix="sealed-")
    os.environ["TMPDIR"] = tempfile.tempdir = directory
    _remove_at_exit([Path(directory)])
    return Path(directory)


def _make_caches(root: Path) -> None:
    """Create the folders of caches; the confined stage cannot create siblings (see `_outside`)."""
    names = ("XDG_CACHE_HOME", *SETTINGS.environment.get("folders", ()))
    folders = [os.environ[name] for name in names if os.environ.get(name)]
    if root.is_relative_to(os.path.expanduser("~")):
        folders.append("~/.cache")
    for folder in folders:
        with contextlib.suppress(OSError, RuntimeError):  # a home that cannot be written, or none
            Path(folder).expanduser().mkdir(parents=True, exist_ok=True)


class _FromSource(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Nothing:
    def find_spec(self, name: str, target: object = None) -> None:
        """Find nothing: a file in the repository's root is no module, except packages of CODE."""


def import_from_source(root: Path) -> None:
    """Import the packages of CODE below `root` from their source, never from bytecode.

    No other module below `root` is found. Modules of CODE that pipeline/ has already imported, from
    bytecode perhaps, are forgotten, so the stage imports them again.
    """
    finder = importlib.machinery.FileFinder.path_hook(
        (_FromSource, importlib.machinery.SOURCE_SUFFIXES)
    )

    def hook(path: str) -> importlib.abc.PathEntryFinder | _Nothing:
        if not below(path, str(root)) or any(
            below(path, str(venv)) for venv in (root / ".venv", sys.prefix)
        ):
            raise ImportError(path)
        return _Nothing() if path == str(root) else finder(path)

    sys.meta_path.insert(0, OwnPackages(str(root), CODE, _FromSource))
    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in CODE]:
        del sys.modules[name]
    # Spawned processes inherit sys.path. The root is last, so that modules of Python and of
    # libraries come first.
    sys.path.append(str(root))
