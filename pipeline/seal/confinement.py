"""The surroundings of a sealed stage: its temporary files, what the kernel lets it open, where code comes from."""

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

from pipeline.declared.code_imports import CODE, WATCHER
from pipeline.declared.dvc_yaml import PARAMS, Instance, below
from pipeline.seal import landlock, seccomp
from pipeline.seal.audit_guard import partial_of
from pipeline.seal.start import OwnPackages
from pipeline.settings import SETTINGS

# What is not data: the system's own folders. A person's are /home, /mnt, /data, /tmp and any other.
_SYSTEM = {
    "Library", "System", "bin", "dev", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix",
    "opt", "proc", "run", "sbin", "snap", "sys", "usr",
}  # fmt: skip
_WRITABLE_SYSTEM = {"dev", "proc"}
_GPU_SERVICE = Path("/tmp/nvidia-mps")  # CUDA's multi-process service, where it runs
_FONT_INDEX = Path(
    "/var/cache/fontconfig"
)  # without it every drawing stage would read each font of the machine


def make_partials(root: Path, instance: Instance) -> list[Path]:
    """Create what outputs are written through, so that the kernel can be told of exactly these; return their paths.

    An output whose name has a suffix is a file, any other a directory.
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
        for path in (
            paths if os.getpid() == process else []
        ):  # a forked child shares what it inherited
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    atexit.register(remove)


def confine(
    root: Path, inputs: list[str], writable: list[Path], network: bool, sockets: bool
) -> bool:
    """Tell the kernel what this process may open from now on; return whether it enforces it.

    A stage with `network` may also read what is outside the repository: its inputs are known by their content, not by their
    place. Without `sockets` no process of the stage may open one that leads off this machine.
    """
    readable = [*_readable(root, inputs), *_libraries(root)]
    if network:
        _make_caches(root)
        if root.is_relative_to(
            tempfile.gettempdir()
        ):  # no rule on it could allow new files beside the repository
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
    # With DVC's cache linked by symlinks the bytes are elsewhere.
    links = [
        path
        for entry in paths
        for path in (entry, *(entry.rglob("*") if entry.is_dir() else ()))
        if path.is_symlink()
    ]
    return [*paths, *(path.resolve() for path in links), root / PARAMS, root / WATCHER]


def _libraries(root: Path) -> list[Path]:
    """Return where Python and its libraries are, and what those need that is installed beside them."""
    folders = {
        root / ".venv",
        *map(Path, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)),
    } - {Path()}
    places = {
        Path(sys.executable).resolve(),
        *map(Path, (sys.prefix, sys.base_prefix, sys.base_exec_prefix)),
    }
    folders |= {place for place in places if not root.is_relative_to(place)}
    # A cluster's tree of software, /sw or /apps: one with the home or the repository in it is a tree of data.
    home = Path(os.path.expanduser("~")).resolve()
    for place in places:
        top = Path(*place.resolve().parts[:2])
        if not any(
            path.is_relative_to(top) for path in (home, root, Path(tempfile.gettempdir()).resolve())
        ):
            folders.add(top)
    return sorted(folders)


def _outside(root: Path) -> list[Path]:
    """Return what is not the repository: at every level above it, all but the folder that leads to it.

    Links are left out: what they lead to is there under its own name, and may be the repository. Of a folder that cannot be
    listed (a cluster's /home) only the owner's own is known.
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
    """Make a folder for temporary files and for what programs keep in a home: settings of other programs choose nothing."""
    directory = tempfile.mkdtemp(prefix="sealed-")
    os.environ["TMPDIR"] = tempfile.tempdir = directory
    _remove_at_exit([Path(directory)])
    return Path(directory)


def _make_caches(root: Path) -> None:
    """What is not there yet could not be made beside the repository: see `_outside`."""
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
        """Find nothing: whatever else the repository's root holds is not a module."""


def import_from_source(root: Path) -> None:
    """Find the packages of CODE below `root`, and no other module of it, compiled from their text, whatever bytecode there is.

    Modules that pipeline/ has imported of them are imported anew.
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
    sys.path.append(
        str(root)
    )  # for processes that are spawned, last: they find Python's and the libraries' own before
