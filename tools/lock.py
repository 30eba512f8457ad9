"""Write the locks, with hashes, for every Python and platform that set-up supports (`make lock`).

    python -m tools.lock             keeps every pin that still fits
    python -m tools.lock all         moves everything to its newest version
    python -m tools.lock NAME…       moves these packages to their newest versions

Needs uv on PATH and the package index. Reads requirements*.in, pyproject.toml and the present
locks. Writes every requirements*.txt except requirements-data.txt. No lock names an index.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import NamedTuple

from common.files import write_bytes
from pipeline.terminal.command_lines import command_line

# An entry is its pin, perhaps with a marker, and a line for each hash.
_ENTRY = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)[^\\\n]*(?:\\\n +--hash=\S+ ?)+\n", re.M)
_HASH = re.compile(r"--hash=(\S+)")
# Only torch's CUDA build needs these; set-up leaves them out if torch is built for CPUs.
_CUDA_LIBRARY = re.compile(r"(cuda|nvidia)-.*|triton")


class Lock(NamedTuple):
    """A lock: its purpose, its requirements, and the locks that are installed before it."""

    purpose: str
    asks: str  # a requirements*.in, or requirements
    beside: tuple[str, ...] = ()


MAIN, CUDA, DEV = "requirements.txt", "requirements-cuda.txt", "requirements-dev.txt"
S3 = "requirements-s3.txt"
LOCKS = {
    MAIN: Lock("What the pipeline needs", "requirements.in"),
    DEV: Lock("What tests and the linter need besides", "requirements-dev.in", (MAIN, CUDA)),
    S3: Lock("What remotes on S3 need besides (make s3)", "dvc-s3", (MAIN, CUDA, DEV)),
    "requirements-s3-test.txt": Lock(
        "The server of the S3 test (make s3-test)",
        "moto[s3]\nflask\nflask-cors",
        (MAIN, CUDA, DEV, S3),
    ),
    "requirements-audit.txt": Lock(
        "pip-audit, in an environment of its own (make audit)", "pip-audit"
    ),
}


class Entry(NamedTuple):
    name: str
    version: str
    text: str  # the pin and its hashes, as in the lock

    def hashes(self) -> set[str]:
        return set(_HASH.findall(self.text))

    def with_hashes(self, more: set[str]) -> "Entry":
        lines = [self.text.partition(" \\\n")[0]]
        lines += [f"    --hash={each}" for each in sorted(self.hashes() | more)]
        return self._replace(text=" \\\n".join(lines) + "\n")


def entries(text: str) -> list[Entry]:
    """Return the packages of a lock."""
    return [Entry(each["name"], each["version"], each[0]) for each in _ENTRY.finditer(text)]


def _read(root: Path, *names: str) -> list[Entry]:
    paths = [root / name for name in names]
    return [each for path in paths if path.exists() for each in entries(path.read_text())]


def _pins(packages: list[Entry]) -> str:
    return "".join(f"{each.name}=={each.version}\n" for each in packages)


def _compile(
    root: Path, asks: str, locked: list[Entry], held: list[Entry], *options: str
) -> list[Entry]:
    """Return the packages that `asks` needs on any platform, as uv resolves them.

    uv keeps a version of `locked` if it fits, and always keeps those of `held`. Raises
    CalledProcessError.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    oldest = re.findall(r">=([\d.]+)", project["requires-python"])[0]
    with tempfile.TemporaryDirectory() as folder:
        lock, constraint = Path(folder, "lock.txt"), Path(folder, "constraint.txt")
        # Without hashes: uv would copy them instead of reading those of the index.
        lock.write_text(_pins(locked))
        constraint.write_text(_pins(held))
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
        command += ["--no-header", "--no-annotate", f"--python-version={oldest}", *options]
        command += [f"--output-file={lock}", f"--constraint={constraint}", "-"]
        subprocess.run(command, cwd=root, input=asks.encode(), check=True, capture_output=True)
        return entries(lock.read_text())


def _with_cpu_builds(root: Path, torch: Entry, locked: list[Entry]) -> Entry:
    """Return torch's entry, with the hashes of its +cpu wheels added.

    PyTorch's own index has them. If it cannot be reached, the present lock's hashes stay, as long
    as they are of the same version.
    """
    try:
        asks = f"torch=={torch.version}+cpu\n"
        [cpu] = _compile(root, asks, [], [], "--no-deps", "--torch-backend=cpu")
        return torch.with_hashes(cpu.hashes())
    except subprocess.CalledProcessError:
        before = [each for each in locked if each[:2] == torch[:2]]
        found = before[0].hashes() - torch.hashes() if before else set()
        print(
            f"lock: PyTorch's index is out of reach; {len(found)} hashes of CPU builds kept for"
            f" torch {torch.version}",
            file=sys.stderr,
        )
        return torch.with_hashes(found)


def write_lock(root: Path, name: str, *upgrade: str) -> None:
    """Write one lock; raise CalledProcessError if uv cannot resolve it."""
    lock = LOCKS[name]
    asks = (root / lock.asks).read_text() if lock.asks.endswith(".in") else lock.asks
    locked, held = _read(root, name, *[CUDA] * (name == MAIN)), _read(root, *lock.beside)
    known = {each.name for each in held}
    added = [
        _with_cpu_builds(root, each, locked) if each.name == "torch" else each
        for each in _compile(root, asks, locked, held, *upgrade)
        if each.name not in known
    ]
    cuda = [each for each in added if _CUDA_LIBRARY.fullmatch(each.name)]
    _write(root / name, lock.purpose, [each for each in added if each not in cuda])
    if name == MAIN:
        _write(root / CUDA, "What torch's CUDA build needs besides", cuda)


def _write(path: Path, purpose: str, packages: list[Entry]) -> None:
    text = f"# {purpose}; written by make lock.\n" + "".join(each.text for each in packages)
    write_bytes(path, text.encode())


def main() -> None:
    parser = command_line("tools.lock", __doc__, changes=True)
    parser.add_argument("upgrade", nargs="*", metavar="NAME")
    names = parser.parse_args().upgrade
    if shutil.which("uv") is None:
        sys.exit("error: lock: uv is not on PATH; pip install uv, in an environment of its own")
    upgrade = ["--upgrade"] if names == ["all"] else [f"--upgrade-package={name}" for name in names]
    for lock in LOCKS:
        try:
            write_lock(Path.cwd(), lock, *upgrade)
        except subprocess.CalledProcessError as error:
            sys.exit(f"error: lock: {lock}: {error.stderr.decode().strip()}")
        print(f"lock: {lock}: {len(_read(Path.cwd(), lock))} packages")


if __name__ == "__main__":
    main()
