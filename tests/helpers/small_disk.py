"""A disk of a few megabytes that can be filled: a tmpfs in a mount namespace of its own, for which
no privilege is needed.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NoReturn

import pytest

MEGABYTE = 1 << 20


class Folder:
    """A plain folder, for what needs no disk of its own, used as a small disk is."""

    def __init__(self, root: Path):
        self.root = self.mount_point = root

    def inside(self, command: list[str], folder: Path) -> list[str]:
        """Return the command that runs `command` in `folder`, named as processes find it."""
        return ["sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]


def no_small_disk(why: str) -> NoReturn:
    """Skip where there can be none, and fail where REQUIRE_SMALL_DISK says that there is to be
    one.
    """
    if os.environ.get("REQUIRE_SMALL_DISK") == "1":
        pytest.fail(why)
    pytest.skip(why)


class SmallDisk(Folder):
    def __init__(self, mount_point: Path, megabytes: int):
        """Mount an empty one; skips the test where the system does not permit it."""
        if any(shutil.which(tool) is None for tool in ("unshare", "nsenter")):
            no_small_disk("there is no unshare and nsenter to mount a small disk with")
        self.mount_point = mount_point
        mount = f'mount -t tmpfs -o size={megabytes}m none "$1" && echo mounted && exec cat'
        command = [
            "unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            mount,
            "sh",
            str(mount_point),
        ]
        # What holds the namespace ends with this process, whose end of the pipe is then closed.
        self._holder = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = self._holder.stdout.readline()
        if said != "mounted\n":
            self.close()
            no_small_disk(f"no disk can be mounted here, see docs/operations.md: {said.strip()}")
        self.root = Path(
            f"/proc/{self._holder.pid}/root{mount_point}"
        )  # as it is seen from outside
        self._filler = self.root / "filler"

    def close(self) -> None:
        self._holder.stdin.close()
        self._holder.wait()

    def inside(self, command: list[str], folder: Path) -> list[str]:
        enter = [
            "nsenter",
            f"--target={self._holder.pid}",
            "--user",
            "--mount",
            "--preserve-credentials",
        ]
        return [*enter, *super().inside(command, folder)]

    def fill(self, left: int) -> None:
        """Leave `left` bytes, down to a whole page."""
        with open(self._filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, self._free() - left // 4096 * 4096)

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)
        deadline = time.monotonic() + 30
        while self._free() < MEGABYTE:  # what is removed is free a moment later
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _free(self) -> int:
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize
