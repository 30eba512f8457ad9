"""tests/helpers/small_disk.py: where no small disk can be mounted, tests skip, or fail where one is
required; a folder needs none.
"""

import subprocess

import pytest
from small_disk import Folder, SmallDisk

REFUSAL = "unshare: unshare failed: Operation not permitted"


@pytest.fixture(params=["no tools", "refused"])
def why(request, tmp_path, monkeypatch) -> str:
    """Make this a system where no disk can be mounted, and return what is said of it."""
    if request.param == "no tools":
        monkeypatch.setenv("PATH", str(tmp_path))
        return "there is no unshare and nsenter"
    for name in ("unshare", "nsenter"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {REFUSAL}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return f"no disk can be mounted here.*: {REFUSAL}"


@pytest.mark.parametrize("required", [False, True], ids=["skipped", "required"])
def test_a_test_that_needs_a_small_disk_is_not_skipped_where_it_is_required(
    why, tmp_path, monkeypatch, required
):
    monkeypatch.delenv("REQUIRE_SMALL_DISK", raising=False)
    if required:
        monkeypatch.setenv("REQUIRE_SMALL_DISK", "1")
    with pytest.raises((pytest.fail if required else pytest.skip).Exception, match=why):
        SmallDisk(tmp_path, 1)


def test_a_command_runs_in_the_plain_folder(tmp_path):
    folder = Folder(tmp_path)
    said = subprocess.run(
        folder.inside(["pwd"], folder.mount_point), text=True, capture_output=True, check=True
    ).stdout
    assert said == f"{tmp_path}\n"
