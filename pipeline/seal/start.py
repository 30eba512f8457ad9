"""Replace `python -m stages.NAME …` by a Python that no file or variable of this machine changes.

Much can happen before the first line of a stage. Python runs `sitecustomize`, `usercustomize` and
lines of *.pth files. It prefers modules of PYTHONPATH and of the working directory to its own. The
loader maps the libraries that LD_PRELOAD names. So stages/__init__.py replaces its process by a new
one, with the same id:
- it has only the variables of pipeline/seal/environment.py;
- it runs none of these files (-S) and ignores the user's own site-packages (-s);
- it finds modules in Python's library and in its environment's site-packages. From the repository
  it imports only `pipeline`, `common` and the packages that pyproject.toml names as code.
This file is the script of that process. It adds ten milliseconds.
"""

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader


class OwnPackages:
    """A finder for sys.meta_path that takes the packages `names` from `root` and nowhere else."""

    def __init__(
        self, root: str, names: tuple[str, ...], loader: type[SourceFileLoader] = SourceFileLoader
    ):
        self.names = names
        self._finder = FileFinder(root, (loader, SOURCE_SUFFIXES))

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return self._finder.find_spec(name) if path is None and name in self.names else None


def start() -> None:
    """Replace this process, `python -m stages.NAME …`, by a clean one with the same id."""
    # Import only Python's own modules: the working directory or PYTHONPATH may shadow them.
    library = os.path.dirname(os.__file__)
    compiled = os.path.join(
        sys.base_exec_prefix, sys.platlibdir, f"python{sys.version_info[0]}.{sys.version_info[1]}"
    )
    sys.path[:] = [library, os.path.join(compiled, "lib-dynload")]
    from pipeline.seal.environment import of_any_stage  # as a script this file does not find it yet

    arguments = sys.argv[1:]
    *options, module = sys.orig_argv[1 : len(sys.orig_argv) - len(arguments)]
    command = [sys.executable, "-P", "-s", "-S", *_kept(options), os.path.abspath(__file__)]
    os.execve(
        sys.executable, [*command, "-m", module.removeprefix("-m"), *arguments], of_any_stage()
    )


def _kept(options: list[str]) -> list[str]:
    """Return those of Python's options that change only what it prints or caches."""
    kept = [option for option in options if option in ("-B", "-u", "-v")]
    if sys.flags.dont_write_bytecode and "-B" not in kept:
        kept.append("-B")
    if "importtime" in sys._xoptions:
        kept += ["-X", "importtime"]
    return kept


def _main() -> None:
    import gc
    import runpy
    import signal
    import site

    # SIGTERM ends a stage, whatever its parent ignored: dvc and clusters end their jobs by it. A
    # SIGINT or SIGHUP that is ignored (nohup, a shell's background job) stays ignored.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Do what Python does without -S, except for *.pth files and sitecustomize.
    site.addpackage = lambda *_: None
    site.execsitecustomize = lambda: None
    site.main()
    root = os.getcwd()
    own = OwnPackages(root, ("pipeline",))
    sys.meta_path.insert(0, own)
    from pipeline.declared.settings import SETTINGS

    own.names = ("pipeline", "common", "tools", *SETTINGS.code)
    from pipeline.seal.sealed_stage import seal
    from pipeline.seal.warm import MODULE, serve
    from pipeline.terminal.streams import go_on_unread

    # Garbage collection takes a sixth of the imports' time; run_stage turns it on again.
    gc.disable()
    command = sys.argv[1:]
    if command[1] == MODULE:
        command = serve(command[2:])
    go_on_unread()
    _, module, *arguments = command
    seal(command)
    # The hooks of pyproject.toml have run; from here on a stage cannot import tools/.
    own.names = ("pipeline", *SETTINGS.code)
    for name in [name for name in sys.modules if name.partition(".")[0] == "tools"]:
        del sys.modules[name]
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
