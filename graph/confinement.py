"""The surroundings of a sealed stage: environment, temporary files, what the kernel lets it open, where code comes from."""

import atexit
import contextlib
import importlib.machinery
import os
import shutil
import sys
import tempfile
from pathlib import Path

from graph import landlock
from graph.guard import partial_of
from graph.imports import WATCHER
from graph.instances import PARAMS, Instance, below

# Undeclared inputs of numpy, pyarrow, torch, their kernels, the Hugging Face libraries (accelerate takes MPI's for an order to
# distribute), matplotlib and Python itself.
_SWITCHES = (
    "ACCELERATE_", "ARROW_", "ATEN_", "CUBLAS_", "CUDNN_", "DNNL_", "FORK_LAUNCHED", "FSDP_", "GOMP_", "KMP_",
    "MATPLOTLIBRC", "MKL_", "MPLBACKEND", "MV2_", "NPY_", "NVIDIA_TF32_OVERRIDE", "OMPI_", "OMP_", "ONEDNN_", "OPENBLAS_",
    "PMI_", "PYTHONPATH", "PYTORCH_", "TOKENIZERS_", "TORCHDYNAMO_", "TORCHINDUCTOR_", "TORCH_", "TRANSFORMERS_",
    "TRITON_",
)  # fmt: skip


def clean_environment(network: bool) -> None:
    """Take away undeclared inputs, and without `network` keep the Hugging Face libraries from trying it."""
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    added = {os.path.abspath(entry) for entry in entries if entry} - {os.getcwd()}
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) not in added]
    for name in [name for name in os.environ if name.startswith(_SWITCHES)]:
        del os.environ[name]
    if not network:
        os.environ["HF_HUB_OFFLINE"] = "1"


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
        for path in paths if os.getpid() == process else []:  # a forked child shares what it inherited
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    atexit.register(remove)


def confine(root: Path, inputs: list[str], writable: list[Path], network: bool) -> bool:
    """Tell the kernel what this process may open from now on; return whether it enforces it."""
    _private_temporary_directory(root)
    if network:
        _hub_cache()
    return landlock.restrict(_readable(root, inputs), [*_outside(root), *writable], network)


def _readable(root: Path, inputs: list[str]) -> list[Path]:
    paths = [root / name for name in inputs]
    # With DVC's cache linked by symlinks the bytes are elsewhere.
    links = [path for entry in paths for path in (entry, *(entry.rglob("*") if entry.is_dir() else ())) if path.is_symlink()]
    return [*paths, *(path.resolve() for path in links), root / PARAMS, root / WATCHER, root / ".venv", Path(sys.prefix)]


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


def _private_temporary_directory(root: Path) -> None:
    """Landlock cannot allow new files in a folder without the repository in it: give both such folders one of their own."""
    if root.is_relative_to(tempfile.gettempdir()):
        directory = tempfile.mkdtemp(prefix="sealed-")
        os.environ["TMPDIR"] = tempfile.tempdir = directory
        _remove_at_exit([Path(directory)])
    with contextlib.suppress(OSError, RuntimeError):  # a home that cannot be written, or none
        if root.is_relative_to(Path.home()):
            (Path.home() / ".cache").mkdir(exist_ok=True)


def _hub_cache() -> None:
    """What is not there yet could not be made beside the repository: see `_outside`."""
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        if os.environ.get(name):
            with contextlib.suppress(OSError):
                Path(os.environ[name]).expanduser().mkdir(parents=True, exist_ok=True)


class _FromSource(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str):
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def import_from_source(root: Path) -> None:
    """Compile the repository's modules from their text, whatever bytecode there is: also those that graph/ has imported."""
    finder = importlib.machinery.FileFinder.path_hook((_FromSource, importlib.machinery.SOURCE_SUFFIXES))

    def hook(path: str):
        if not below(path, str(root)) or any(below(path, str(venv)) for venv in (root / ".venv", sys.prefix)):
            raise ImportError(path)
        return finder(path)

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "model"]:
        del sys.modules[name]
