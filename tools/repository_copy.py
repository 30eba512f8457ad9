"""A copy of the repository that a dry run, a benchmark or a test may change."""

import shutil
import subprocess
import sys
from pathlib import Path


def copy_repository(root: Path, target: Path, leave_out: tuple[str, ...] = ()) -> None:
    """Copy the files that git tracks or would add into a new git repository.

    Paths that begin with one of `leave_out` are not copied. The copies keep their times, and the
    new repository uses `root`'s environment, so that make has nothing to set up.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(command, cwd=root, text=True).split("\0"):
        if name and (root / name).is_file() and not name.startswith(leave_out):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name, follow_symlinks=False)
    (target / ".venv").symlink_to(sys.prefix)
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=target, check=True)
