"""A copy of the repository that a dry run, a benchmark or a test may change."""

import shutil
import subprocess
import sys
from pathlib import Path


def copy_repository(root: Path, target: Path, leave_out: tuple[str, ...] = ()) -> None:
    """Copy the files that git has or would take, but for those whose path begins with one of
    `leave_out`, and begin a repository.

    With their times, and with `root`'s environment as its own, so that make sees nothing to set up.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(command, cwd=root, text=True).split("\0"):
        if name and (root / name).is_file() and not name.startswith(leave_out):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, target / name, follow_symlinks=False)
    (target / ".venv").symlink_to(sys.prefix)
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=target, check=True)
