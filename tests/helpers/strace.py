"""Trace with strace which files stages open, to cross-check the seal and dvc.yaml.

    python tests/helpers/strace.py             every stage of this checkout, one after another
    python tests/helpers/strace.py export …    instances by stage

Needs strace (Debian's package of that name) and the stages' inputs. Stages write their outputs
again, with the same bytes.
"""

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from pipeline.declared.dvc_yaml import Instance, below, read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.timings import DURATIONS, with_timings
from pipeline.seal.audit_guard import partial_of
from pipeline.seal.scratch_folder import scratch_of

COMMAND = [
    "strace",
    "--follow-forks",
    "--decode-fds=path",
    "--seccomp-bpf",
    "--trace=open,openat,openat2,creat",
    "--quiet=all",
]
# Files that the seal itself reads, to know the declaration, and that Python opens to import it.
OF_THE_SEAL = (
    ".dvcignore",
    "pipeline",
    "pyproject.toml",
    # The project's own hooks, which run before the stage `params` is sealed.
    "tools/__init__.py",
    "tools/__pycache__",
    "tools/machine_limits.py",
    "dvc.yaml",
    "params.yaml",
    "libraries.yaml",
    "common/yaml_file.py",
    "stages/__pycache__",
    "stages/__init__.py",
    str(DURATIONS),
)
OPENED = re.compile(
    r"(?:open|openat|openat2|creat)\(.*?([A-Z_|0-9]*O_[A-Z_|0-9]*)?.*\) = \d+<(/[^>]*)>"
)


class Opened(NamedTuple):
    path: str  # relative to the repository
    written: bool


def trace(command: list[str], root: Path) -> list[Opened]:
    """Run `command` in `root`; return the files below `root` that it and its children opened.

    The environment's files are left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        subprocess.run(
            [*COMMAND, f"--output={log}", *command], cwd=root, check=True, stdout=subprocess.DEVNULL
        )
        found = [OPENED.search(line) for line in log.read_text(errors="replace").splitlines()]
    opened = {
        Opened(match[2][len(str(root)) + 1 :], bool(re.search("O_WRONLY|O_RDWR|O_CREAT", match[0])))
        for match in found
        if match and match[2].startswith(f"{root}/")
    }
    return sorted(
        entry
        for entry in opened
        if not below(entry.path, ".venv") and not (root / entry.path).is_dir()
    )


def undeclared(instance: Instance, opened: list[Opened]) -> list[Opened]:
    """Return the opened files that dvc.yaml does not declare for the instance."""
    instance = with_timings(instance)
    outputs = [name for out in instance.outputs for name in (out, partial_of(out))]
    outputs += filter(None, [scratch_of(instance)])
    writable = [*outputs, str(DURATIONS), "pipeline/__pycache__", "stages/__pycache__"]
    readable = [*instance.deps, *outputs, *OF_THE_SEAL]
    return [
        entry
        for entry in opened
        if not any(below(entry.path, name) for name in (writable if entry.written else readable))
    ]


def main() -> None:
    instances = read_instances(WorkingTree(REPOSITORY)).values()
    chosen = [
        instance for instance in instances if not sys.argv[1:] or instance.stage in sys.argv[1:]
    ]
    files, faults = 0, 0
    for instance in chosen:
        opened = trace([sys.executable, *shlex.split(instance.command)[1:]], REPOSITORY)
        wrong = undeclared(instance, opened)
        print(
            f"{instance.name}: {len(opened)} files of the repository opened, {len(wrong)}"
            " undeclared",
            flush=True,
        )
        for entry in wrong:
            print(f"  {'wrote' if entry.written else 'read'} {entry.path}")
        files, faults = files + len(opened), faults + len(wrong)
    print(f"{len(chosen)} stages, {files} files, {faults} undeclared")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
