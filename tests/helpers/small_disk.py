"""A disk of a few megabytes for tests to fill: a tmpfs in its own mount namespace, unprivileged."""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NoReturn

import pytest

MEGABYTE = 1 << 20


class Folder:
    """A plain folder with the interface of SmallDisk."""

    def __init__(self, root: Path):
        self.root = self.mount_point = root

    def inside(self, command: list[str], folder: Path) -> list[str]:
        """Return the command that runs `command` in `folder`."""
        return ["sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]


def no_small_disk(why: str) -> NoReturn:
    """Skip the test; fail instead if REQUIRE_SMALL_DISK is set."""
    if os.environ.get("REQUIRE_SMALL_DISK") == "1":
        pytest.fail(why)
    pytest.skip(why)


class SmallDisk(Folder):
    def __init__(self, mount_point: Path, megabytes: int):
        """Mount an empty disk; skip the test if the system does not permit it."""
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
        # The process that holds the namespace ends when this process's end of the pipe closes.
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
        )  # the path by which this process reaches the disk
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
        """Fill the disk except for `left` bytes, rounded down to a whole page."""
        with open(self._filler, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, self._free() - left // 4096 * 4096)

    def free(self) -> None:
        self._filler.unlink(missing_ok=True)
        deadline = time.monotonic() + 30
        while self._free() < MEGABYTE:  # removed files are freed a moment later
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _free(self) -> int:
        found = os.statvfs(self.root)
        return found.f_bavail * found.f_frsize
