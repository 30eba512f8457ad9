"""Remove results and dvc.lock entries of runs that dvc.yaml no longer gives (`make prune`).

    python -m pipeline.leftover.prune              lists what would be removed, and asks
    YES=1 python -m pipeline.leftover.prune        lists it, and removes it without asking
    python -m pipeline.leftover.prune --artifacts  removes today's artifacts, without asking

Candidates are outputs of stages for other values of params.yaml's lists (a dropped seed, condition
or checkpoint step, another profile), and outputs that dvc.lock records of stages that no longer
exist. A file is removed only if there is evidence that a stage wrote it as it is now:
- git has it, as it was committed;
- DVC recorded its hash (dvc.lock of any branch, or the run cache);
- the SHA256SUMS of its directory has its hash;
- its stage has run here, and DVC has recorded no version of it: the stage was killed.
All other files are listed and kept.

Reads dvc.yaml, params.yaml, dvc.lock, git and DVC's cache. Removes outputs, scratch folders of
killed runs and empty directories. Writes dvc.lock.
"""

import contextlib
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from common.files import CHECKSUMS, sha256_file
from pipeline.declared.dvc_yaml import GRAPH, PARAMS, below, load_yaml, read_instances
from pipeline.declared.faults import told_in_one_line
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import LOCK, Graph, cached_entries, object_path
from pipeline.declared.settings import SETTINGS
from pipeline.declared.timings import DURATIONS, with_timings
from pipeline.dvc_support.objects import file_md5
from pipeline.dvc_support.record import cut_lock
from pipeline.leftover.withdrawn import OutputPattern, foreign_files, templates
from pipeline.terminal.command_lines import command_line

ARTIFACTS = tuple(SETTINGS.artifacts)
# Ends of the hidden siblings that pipeline/seal/scratch_folder.py and common/files.py make.
_HIDDEN = (".scratch", ".partial")
GIT, CACHE, NOWHERE = "git restore", "DVC's cache", "nothing"


class Leftover(NamedTuple):
    """One output's files: those that go, with the way each comes back, and those that stay."""

    path: str
    goes: dict[str, str]
    stays: dict[str, str]
    size: int


class Evidence:
    """Evidence that a stage wrote a file: git, DVC's records, checksums."""

    def __init__(self, root: Path):
        self.root = root
        self._cache = Path(_said(root, sys.executable, "-m", "dvc", "cache", "dir"))
        self._recorded: dict[str, set[str]] = {}
        for lock in _locks(root):
            self._take(lock)
        for entry in self._cache.glob("runs/*/*/*"):
            with contextlib.suppress(OSError, yaml.YAMLError, AttributeError, KeyError, TypeError):
                self._take_entry(load_yaml(entry.read_bytes()))
        self._tracked = set(_said(root, "git", "ls-files", "-z").split("\0"))
        changed = ("git", "diff", "--name-only", "--no-renames", "--relative", "-z", "HEAD")
        committed = bool(_said(root, "git", "rev-parse", "--verify", "--quiet", "HEAD"))
        self._edited = set(_said(root, *changed).split("\0")) if committed else self._tracked

    def _take(self, lock: bytes) -> None:
        with contextlib.suppress(yaml.YAMLError, AttributeError, KeyError, TypeError):
            for entry in load_yaml(lock)["stages"].values():
                self._take_entry(entry)

    def _take_entry(self, entry: dict[str, Any]) -> None:
        for out in entry.get("outs", []):
            self._recorded.setdefault(out["path"], set()).add(out["md5"])

    def judge(self, file: str, output: str, instance: str | None) -> tuple[bool, str]:
        """Return whether a stage wrote `file` as it is, and how it comes back or why it stays."""
        if file in self._tracked:
            return (
                (False, "git has no commit of these edits") if file in self._edited else (True, GIT)
            )
        path = self.root / file
        if path.is_symlink():
            return self._judge_link(path)
        inside = file[len(output) + 1 :]
        md5s = self._recorded.get(output, set())
        found = file_md5(path)
        if found is not None and found in {self._md5_inside(md5, inside) for md5 in md5s}:
            return True, CACHE if object_path(self._cache, found).is_file() else NOWHERE
        if self._checksummed(file, output):
            return True, NOWHERE
        # Its stage ran here, and DVC never recorded this output: the stage was killed after it
        # wrote the file.
        if not md5s and instance and (self.root / DURATIONS / instance).is_file():
            return True, NOWHERE
        return False, "no record says that a stage wrote it as it is"

    def _md5_inside(self, md5: str, inside: str) -> str | None:
        """Return the recorded MD5 of the file `inside` an output whose MD5 is `md5`."""
        if not md5.endswith(".dir"):
            return md5
        return (cached_entries(self._cache, md5) or {}).get(inside)

    def _judge_link(self, path: Path) -> tuple[bool, str]:
        """Let links into DVC's cache go (`cache.type symlink`): the bytes stay in the cache."""
        target = path.resolve()
        if not target.is_relative_to(self._cache.resolve()):
            return False, "it is a link, which no stage makes"
        return True, CACHE if target.is_file() else NOWHERE

    def _checksummed(self, file: str, output: str) -> bool:
        """Return whether the nearest SHA256SUMS within the output lists the file's bytes."""
        folder = os.path.dirname(file)
        while below(folder, output):
            sums = self.root / folder / CHECKSUMS
            if sums.is_file():
                if file == f"{folder}/{CHECKSUMS}":
                    return True
                name = file[len(folder) + 1 :]
                return f"{sha256_file(self.root / file)}  {name}" in sums.read_text(
                    errors="replace"
                ).split("\n")
            folder = os.path.dirname(folder)
        return False


def _said(root: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=root, text=True, capture_output=True)
    return done.stdout if "-z" in command else done.stdout.strip()


def _locks(root: Path) -> Iterator[bytes]:
    """Yield the dvc.lock of the working tree and those of all branches."""
    if (root / LOCK).is_file():
        yield (root / LOCK).read_bytes()
    branches = ("git", "for-each-ref", "--format=%(objectname)", "refs/heads", "refs/remotes")
    for revision in ("HEAD", *_said(root, *branches).split()):
        command = ["git", "cat-file", "blob", f"{revision}:./{LOCK}"]
        done = subprocess.run(command, cwd=root, capture_output=True)
        if done.returncode == 0:
            yield done.stdout


def leftovers(root: Path) -> list[Leftover]:
    """Return what runs that no longer exist have left in the working tree, sorted by path."""
    tree = WorkingTree(root)
    instances = {name: with_timings(instance) for name, instance in read_instances(tree).items()}
    current = {out for instance in instances.values() for out in instance.outputs}
    found = dict(_matching(root, templates(tree, with_timings), current))
    lock = Graph(tree)
    for name in lock.withdrawn():
        for out in lock.lock[name].outs:
            apart = not any(below(out, other) or below(other, out) for other in current)
            if apart and _inside(root, out):
                found.setdefault(out, name)
    if not found:
        return []
    evidence = Evidence(root)
    left = [_leftover(root, path, found[path], evidence) for path in sorted(found)]
    return [one for one in left if one.goes or one.stays]


def _inside(root: Path, out: str) -> bool:
    """Return whether `out` exists here; False behind a link to a folder, perhaps an archive."""
    path = Path(out)
    if (
        path.is_absolute()
        or ".." in path.parts
        or any((root / folder).is_symlink() for folder in path.parents)
    ):
        return False
    return os.path.lexists(root / path)


def _matching(
    root: Path, known: list[OutputPattern], current: set[str]
) -> Iterator[tuple[str, str | None]]:
    """Yield the paths that would be outputs for other values of the matrix, with the instance.

    For the hidden sibling of such an output, which only a killed stage leaves, yield None as the
    instance.
    """
    roots = sorted({template.root for template in known})
    todo = [name for name in roots if (root / name).is_dir() and not (root / name).is_symlink()]
    while todo:
        folder = todo.pop()
        for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name):
            path = f"{folder}/{entry.name}"
            if path in current:
                continue
            hidden = re.fullmatch(rf"\.(.+)({'|'.join(map(re.escape, _HIDDEN))})", entry.name)
            bare = f"{folder}/{hidden[1]}" if hidden else path
            matches = [(one, one.pattern.fullmatch(bare)) for one in known]
            names = [one.name(match) for one, match in matches if match]
            if names and not any(below(out, bare) for out in current):
                yield path, None if hidden else names[0]
            elif entry.is_dir(follow_symlinks=False):
                todo.append(path)


def _leftover(root: Path, path: str, instance: str | None, evidence: Evidence) -> Leftover:
    goes: dict[str, str] = {}
    stays: dict[str, str] = {}
    size = 0
    for file in _files(root, path):
        is_a_stages, why = (
            (True, NOWHERE) if instance is None else evidence.judge(file, path, instance)
        )
        (goes if is_a_stages else stays)[file] = why
        size += (root / file).lstat().st_size if is_a_stages else 0
    return Leftover(path, goes, stays, size)


def _files(root: Path, path: str) -> list[str]:
    if not (root / path).is_dir() or (root / path).is_symlink():
        return [path]
    found = []
    for folder, folders, names in os.walk(root / path):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        found += [Path(folder, name).relative_to(root).as_posix() for name in [*names, *links]]
    return sorted(found)


def artifacts(root: Path) -> list[Leftover]:
    """Return the current instances' outputs in ARTIFACTS, with the scratch of killed runs."""
    evidence = Evidence(root)
    found: dict[str, str | None] = {}
    for name, instance in read_instances(WorkingTree(root)).items():
        for out in instance.outs:
            if out.split("/")[0] in ARTIFACTS:
                folder, base = os.path.split(out)
                hidden = [os.path.join(folder, f".{base}{end}") for end in _HIDDEN]
                found |= {path: None for path in hidden if _inside(root, path)}
                found |= {out: name} if _inside(root, out) else {}
    return [_leftover(root, path, found[path], evidence) for path in sorted(found)]


def running(root: Path) -> list[str]:
    """Return the stages that run here now: each holds the lock on its file in DURATIONS."""
    found = []
    for path in sorted((root / DURATIONS).glob("*")):
        with open(path, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(path.name)
    return found


def prune_copy(root: Path) -> None:
    """Remove leftovers in the copy that DVC makes for a queued experiment; git has all of them."""
    remove(root, leftovers(root))
    remove_empty(root)


def listing(found: list[Leftover], entries: list[str]) -> str:
    """Return what is removed and what is kept, for a person to read."""
    going = [leftover for leftover in found if leftover.goes]
    total = sum(leftover.size for leftover in going)
    lines = (
        [f"{len(going)} results of runs that {PARAMS} and {GRAPH} no longer name, {_bytes(total)}:"]
        if going
        else []
    )
    width = max((len(leftover.path) for leftover in going), default=0)
    for leftover in going:
        ways = [way for way in (GIT, CACHE, NOWHERE) if way in leftover.goes.values()]
        lines.append(
            f"  {leftover.path:{width}}  {_bytes(leftover.size):>9}  back by: {', '.join(ways)}"
        )
    if entries:
        lines.append(f"{len(entries)} entries of {LOCK}: {', '.join(entries)}")
    kept = {file: why for leftover in found for file, why in leftover.stays.items()}
    if kept:
        lines.append("Kept, for they may be your own; move them elsewhere:")
        lines += [f"  {file}: {why}" for file, why in kept.items()]
    return "\n".join(lines)


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def remove(root: Path, found: list[Leftover]) -> None:
    """Remove the files that go, and directories that this empties; newer files stay."""
    for leftover in found:
        for file in leftover.goes:
            (root / file).unlink(missing_ok=True)
        if (root / leftover.path).is_dir() and not (root / leftover.path).is_symlink():
            for folder, _, _ in os.walk(root / leftover.path, topdown=False):
                if not os.listdir(folder):
                    os.rmdir(folder)


def remove_empty(root: Path) -> int:
    """Remove empty directories below the folders of outputs; return how many."""
    tree = WorkingTree(root)
    outputs = {out for instance in read_instances(tree).values() for out in instance.outputs}
    folders = {out.split("/")[0] for out in outputs if "/" in out}
    folders |= {template.root for template in templates(tree, with_timings)}
    count = 0
    for name in sorted(folders):
        for folder, _, _ in os.walk(root / name, topdown=False):
            if folder != str(root / name) and not os.listdir(folder):
                os.rmdir(folder)
                count += 1
    return count


def main() -> None:
    parser = command_line("pipeline.leftover.prune", __doc__)
    parser.add_argument(
        "--artifacts",
        action="store_true",
        help="free the disk of outputs that dvc repro brings back",
    )
    only_artifacts = parser.parse_args().artifacts
    root = Path.cwd()
    yes = os.environ.get("YES", "")
    if yes not in ("", "1"):
        sys.exit(f"error: prune: YES must be 1 or unset, not {yes!r}")
    with told_in_one_line("prune"):
        if busy := running(root):
            sys.exit(f"error: prune: {', '.join(busy)} runs; wait until it ends")
        if only_artifacts:
            _free(root)
            return
        found, entries = leftovers(root), Graph(WorkingTree(root)).withdrawn()
        if text := listing(found, entries):
            print(text)
        if any(leftover.goes for leftover in found) or entries:
            _agreed(yes)
            remove(root, found)
            if entries:
                cut_lock(root)
            print(
                "prune: removed; what git or DVC's cache has comes back by git restore, or by dvc "
                "repro once params.yaml names it"
            )
        elif not found:
            print("prune: nothing is left of other runs")
        empty = remove_empty(root)
        if empty:
            print(f"prune: {empty} empty director{'ies' if empty > 1 else 'y'} removed")
        foreign = list(foreign_files(root, list(read_instances(WorkingTree(root)).values())))
    if foreign:
        sys.exit(
            "error: prune: stages would still read a file as results that no stage writes "
            f"({foreign[0]}); move it elsewhere"
        )


def _free(root: Path) -> None:
    found = artifacts(root)
    remove(root, found)
    remove_empty(root)
    size = _bytes(sum(one.size for one in found))
    print(
        f"{size} of {', '.join(ARTIFACTS)} freed; dvc repro brings them back, from .dvc/cache or "
        "by work"
    )
    for file, why in sorted((file, why) for one in found for file, why in one.stays.items()):
        print(f"kept, for it may be your own: {file}: {why}")


def _agreed(yes: str) -> None:
    """Return if the person agrees, now or by YES=1; exit otherwise."""
    if yes:
        return
    if not sys.stdin.isatty():
        sys.exit(
            "error: prune: nothing is removed: no terminal to ask on; YES=1 make prune removes it "
            "without asking"
        )
    try:
        answer = input("Remove them? [y/N] ")
    except (EOFError, KeyboardInterrupt):
        print()
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        sys.exit("prune: nothing is removed")


if __name__ == "__main__":
    main()
