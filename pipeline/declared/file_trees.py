"""The repository's files on disk, in git's index, or in a commit, behind one interface.

    WorkingTree(root)            files on disk
    GitTree(root)                git's index, the next commit
    GitTree(root, "main")        a commit

Each has `has(path)`, `read(path)` and `files(*folders)`; paths are relative to the root.
"""

import fnmatch
import os
import subprocess
from functools import cached_property
from pathlib import Path


class WorkingTree:
    """The files on disk."""

    name = "the working tree"

    def __init__(self, root: Path):
        self.root = root

    def has(self, path: str) -> bool:
        return (self.root / path).is_file()

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def files(self, *folders: str) -> list[str]:
        """Return the paths of all files below `folders`, sorted."""
        found = []
        for folder in folders:
            for directory, _, names in os.walk(self.root / folder):
                found += [Path(directory, name).relative_to(self.root).as_posix() for name in names]
        return sorted(found)


class GitTree:
    """A commit's files; for the empty revision, those of git's index."""

    def __init__(self, root: Path, revision: str = ""):
        self.revision = revision
        self.root, self.name = root, revision or "the index"
        listing = (
            ("ls-tree", "-rz", "--name-only", "--end-of-options", revision)
            if revision
            else ("ls-files", "-z")
        )
        self._paths = frozenset(self._git(*listing).decode().split("\0"))
        # "REVISION:./PATH" is relative to this folder, which need not be git's root.
        self._prefix = f"{revision}:./".encode()

    def _git(self, *arguments: str) -> bytes:
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True)
        if done.returncode:
            raise ValueError(done.stderr.decode().strip())
        return done.stdout

    # One process answers all reads: "REVISION:./PATH\n" in; "HASH TYPE SIZE\nCONTENT\n" out.
    @cached_property
    def _objects(self) -> subprocess.Popen[bytes]:
        command = ["git", "cat-file", "--batch"]
        return subprocess.Popen(
            command, cwd=self.root, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def has(self, path: str) -> bool:
        return path in self._paths

    def read(self, path: str) -> bytes:
        if path not in self._paths:
            raise FileNotFoundError(f"{path} at {self.name}")
        asked, found = self._objects.stdin, self._objects.stdout
        assert asked is not None  # both are pipes
        assert found is not None
        asked.write(self._prefix + path.encode() + b"\n")
        asked.flush()
        size = int(found.readline().split()[-1])
        return found.read(size + 1)[:-1]

    def files(self, *folders: str) -> list[str]:
        return sorted(
            path
            for path in self._paths
            if path.startswith(tuple(f"{folder}/" for folder in folders))
        )


Tree = WorkingTree | GitTree


_COMMITS = 50  # how many commits to search for the recorded content of a folder


def changing_commits(tree: Tree, folder: str) -> list[str]:
    """Return the latest commits that changed `folder`, newest first; none without git."""
    revision = (tree.revision or "HEAD") if isinstance(tree, GitTree) else "HEAD"
    command = [
        "git",
        "log",
        f"-{_COMMITS}",
        "--format=%H",
        "--end-of-options",
        revision,
        "--",
        folder,
    ]
    try:
        done = subprocess.run(command, cwd=tree.root, capture_output=True, text=True)
    except FileNotFoundError:  # no git on this machine
        return []
    return done.stdout.split() if done.returncode == 0 else []


IGNORED = ".dvcignore"


def without_ignored(tree: Tree, paths: list[str]) -> list[str]:
    """Return those of `paths` that DVC sees: no part of a path matches a pattern of .dvcignore."""
    patterns = (
        [line.removeprefix("\\") for line in tree.read(IGNORED).decode().split("\n") if line]
        if tree.has(IGNORED)
        else []
    )
    return [
        path
        for path in paths
        if not any(fnmatch.fnmatch(part, each) for part in path.split("/") for each in patterns)
    ]
