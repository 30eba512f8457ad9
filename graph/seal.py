"""The seal around every stage: it reads what dvc.yaml declares, writes what it declares, and has the declared libraries.

stages/__init__.py calls `seal` before a stage imports anything. From then on
- a Python audit hook (PEP 578) sees every open, listing, rename, removal and connection that passes through Python, and
  stops the stage with the file's name; it also hears which sections of params.yaml are read;
- where the kernel has Landlock, files opened by native code (safetensors, pyarrow, tokenizers) and by child processes are
  guarded too: an undeclared one cannot be opened, and an output only through the temporary sibling of model/files.py;
- first-party modules are compiled from their source: a .pyc that looks fresh (same second, same size) is not believed.
Only `fetch` may use the network. Files outside the repository, and its .venv, are not inputs in this sense: libraries are
declared by version. The seal is a guard against mistakes, not against an attacker.
"""

import atexit
import importlib.machinery
import os
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import yaml

from graph import landlock
from graph.imports import WATCHER
from graph.instances import PARAMS, Instance, below, expand, load_yaml, read_stages
from graph.libraries import declared_versions, mismatches
from graph.tree import WorkingTree

DURATIONS = Path(".dvc/tmp/durations")
NETWORK_STAGES = {"fetch"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_NETWORK_EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
# Where an event's arguments have a path, and where the descriptor of the directory that it is relative to.
_CHANGES = {
    "os.chmod": ((0, 2),),
    "os.link": ((1, 3),),
    "os.mkdir": ((0, 2),),
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.rmdir": ((0, 1),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
}


class SealBroken(BaseException):
    """Not an Exception, so that no library's `except Exception` carries on after it."""


def seal() -> None:
    """Hold this process to the declaration of the stage whose command it was started with, or exit with the reason."""
    root = Path.cwd()
    instance = _instance_of(root, sys.orig_argv)
    problems = mismatches(instance, declared_versions(WorkingTree(root)))
    if problems:
        sys.exit("\n".join(f"error: {line}" for line in problems))
    (root / DURATIONS).mkdir(parents=True, exist_ok=True)
    duration = os.open(root / DURATIONS / instance.name, os.O_RDWR | os.O_CREAT, 0o666)
    network = instance.stage in NETWORK_STAGES
    if not network:
        os.environ["HF_HUB_OFFLINE"] = "1"
    partials = _make_partials(root, instance)
    _private_temporary_directory(root)
    outside = _outside(root)
    if outside is not None:
        landlock.restrict(_readable(root, instance), [*outside, *partials], network)
    guard = Guard(root, instance, network, duration)
    sys.addaudithook(guard.hear)
    sys.excepthook = guard.explain
    _import_from_source(root)


class Guard:
    """What the audit hook knows: one instance's declaration, and what the stage has read of it."""

    def __init__(self, root: Path, instance: Instance, network: bool, duration: int):
        self._root = str(root)
        self._skipped = (f"{root}/.venv/", sys.prefix + "/")
        self._instance = instance
        self._network = network
        self._duration, self._started = duration, time.monotonic()
        self._unread = set(instance.params.get(PARAMS, ()))
        self._broken: list[str] = []
        self._readable = {*instance.deps, *instance.outputs, *map(partial_of, instance.outputs)}
        self._writable = {*instance.outputs, *map(partial_of, instance.outputs)}
        if self._unread:
            self._readable.add(PARAMS)
        # Importing lists the folders that modules are in.
        self._listable = {".", WATCHER} | {os.path.dirname(dep) for dep in instance.deps if dep.endswith(".py")}

    def hear(self, event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            self._opened(path, flags)
        elif event in ("os.listdir", "os.scandir"):
            self._listed(arguments[0])
        elif event in _CHANGES:
            for path, folder in _CHANGES[event]:
                self._changed(event, arguments[path], -1 if folder is None else arguments[folder])
        elif event in _NETWORK_EVENTS:
            self._connected(event, arguments)
        elif event == "gpt2_ablation.read_section":
            self._read_section(*arguments)
        elif event == "gpt2_ablation.stage_done":
            self._done()

    def _opened(self, path: object, flags: int) -> None:
        name = self._inside(path)
        if name is None:
            return
        if flags & _WRITING:
            if not self._covers(self._writable, name):
                self._break(f"wrote {name}, which is none of its outputs in dvc.yaml")
        elif not self._covers(self._readable, name) and not below(name, WATCHER):
            full = os.path.join(self._root, name)
            # An open directory tells nothing before it is listed, nor does a file that is not there.
            if os.path.lexists(full) and not os.path.isdir(full):
                self._break(f"read {name}, which is none of its deps in dvc.yaml")

    def _listed(self, path: object) -> None:
        name = self._inside("." if path is None else path)
        if name is not None and name not in self._listable and not self._covers(self._readable, name):
            self._break(f"listed {name}, which is none of its deps in dvc.yaml")

    def _changed(self, event: str, path: object, folder: int) -> None:
        if isinstance(path, int):
            return  # judged when it was opened
        name = self._inside(path, folder)
        if name is None or self._covers(self._writable, name):
            return
        if event == "os.mkdir" and any(below(out, name) for out in self._writable):
            return  # on the way to an output
        if event not in ("os.remove", "os.rmdir") or os.path.lexists(os.path.join(self._root, name)):
            self._break(f"changed {name}, which is none of its outputs in dvc.yaml")

    def _connected(self, event: str, arguments: tuple) -> None:
        address = arguments[0] if event in ("socket.getaddrinfo", "socket.gethostbyname") else arguments[1]
        local = isinstance(address, str | bytes) and event in ("socket.connect", "socket.sendto", "socket.sendmsg")
        if not self._network and not local:
            host = address[0] if isinstance(address, tuple) else address
            self._break(f"used the network ({host!r}); only {', '.join(NETWORK_STAGES)} may")

    def _read_section(self, path: str, key: str) -> None:
        if self._inside(path) == PARAMS and key not in self._instance.params.get(PARAMS, ()):
            self._break(f"read {key} of {PARAMS}, which is none of its params in dvc.yaml")
        self._unread.discard(key)

    def _done(self) -> None:
        if self._unread and PARAMS not in self._instance.deps:
            self._break(f"never read {', '.join(sorted(self._unread))} of {PARAMS}, which dvc.yaml declares")
        if self._broken:  # something swallowed it
            raise SealBroken(self._broken[0])
        os.ftruncate(self._duration, 0)
        os.pwrite(self._duration, b"%.2f\n" % (time.monotonic() - self._started), 0)

    def _inside(self, path: object, folder: int = -1) -> str | None:
        """Return `path` relative to the repository, None where it is outside or in the environment.

        `path` may be a descriptor, or relative to the directory open as `folder`.
        """
        try:
            if isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}")
            elif folder != -1:
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(path))
            full = os.path.abspath(os.fsdecode(path))
        except (OSError, TypeError):
            return None
        if full == self._root:
            return "."
        if not full.startswith(self._root + "/") or full.startswith(self._skipped):
            return None
        return full[len(self._root) + 1 :]

    @staticmethod
    def _covers(allowed: set[str], name: str) -> bool:
        while name:
            if name in allowed:
                return True
            name = os.path.dirname(name)
        return False

    def _break(self, what: str) -> None:
        message = f"{self._instance.name} {what}"
        self._broken.append(message)
        raise SealBroken(message)

    def explain(self, kind: type[BaseException], error: BaseException, trace: object) -> None:
        """As sys.excepthook: one line for a broken seal, and a hint where the kernel may have refused for us."""
        if issubclass(kind, SealBroken):
            print(f"error: seal: {error}", file=sys.stderr)
            return
        traceback.print_exception(kind, error, trace)
        if "ermission denied" in str(error) or "os error 13" in str(error):
            print(
                f"error: seal: {self._instance.name} opened a file, or the network, that dvc.yaml does not give it: {error}",
                file=sys.stderr,
            )


def partial_of(path: str) -> str:
    """Return the temporary sibling through which model/files.py writes `path`."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.partial")


def _instance_of(root: Path, command: list[str]) -> Instance:
    module, *arguments = command[command.index("-m") + 1 :]
    text = shlex.join(["python", "-m", module, *arguments])
    tree = WorkingTree(root)
    stage = module.removeprefix("stages.")
    try:
        declared = read_stages(tree)[stage]
        instances = expand(stage, declared, load_yaml(tree.read(PARAMS)) if "matrix" in declared else {})
        return next(instance for instance in instances if instance.command == text)
    except yaml.YAMLError as error:
        sys.exit(f"error: dvc.yaml or {PARAMS}: not valid YAML: {error}".replace("\n", " "))
    except (OSError, KeyError, StopIteration):
        sys.exit(f"error: dvc.yaml has no stage whose command is {text!r}; dvc stage list names them")


def _make_partials(root: Path, instance: Instance) -> list[Path]:
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
    process = os.getpid()

    def remove_unused() -> None:
        for partial in partials if os.getpid() == process else []:
            if partial.is_dir():
                shutil.rmtree(partial)
            else:
                partial.unlink(missing_ok=True)

    atexit.register(remove_unused)
    return partials


def _readable(root: Path, instance: Instance) -> list[Path]:
    paths = [root / name for name in (*instance.deps, PARAMS, WATCHER, ".venv")]
    # With DVC's cache linked by symlinks the bytes are elsewhere.
    links = [path for dep in paths[: len(instance.deps)] for path in (dep, *(dep.rglob("*") if dep.is_dir() else ()))]
    return paths + [path.resolve() for path in links if path.is_symlink()]


def _outside(root: Path) -> list[Path] | None:
    """Return what is not the repository: at every level above it, all but the folder that leads to it.

    Links are left out: what they lead to is there under its own name, and may be the repository. None where such a level
    cannot be listed, and Landlock therefore not be told what to leave open.
    """
    paths = []
    for folder in root.parents:
        leads_here = root.parts[len(folder.parts)]
        try:
            paths += [path for path in folder.iterdir() if path.name != leads_here and not path.is_symlink()]
        except PermissionError:
            return None
    return paths


def _private_temporary_directory(root: Path) -> None:
    """Landlock cannot allow new files in a folder without the repository in it: give both such folders one of their own."""
    if root.is_relative_to(tempfile.gettempdir()):
        directory = tempfile.mkdtemp(prefix="sealed-")
        os.environ["TMPDIR"] = tempfile.tempdir = directory
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
    if root.is_relative_to(Path.home()):
        (Path.home() / ".cache").mkdir(exist_ok=True)


class _FromSource(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str):
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _import_from_source(root: Path) -> None:
    finder = importlib.machinery.FileFinder.path_hook((_FromSource, importlib.machinery.SOURCE_SUFFIXES))

    def hook(path: str):
        if not below(path, str(root)) or below(path, str(root / ".venv")):
            raise ImportError(path)
        return finder(path)

    sys.path_hooks.insert(0, hook)
    sys.path_importer_cache.clear()
