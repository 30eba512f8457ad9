"""make's set-up where the package index is out of reach: a line, nothing that passes for whole, and
the next make goes on.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fault_table import seen
from repository import REPOSITORY

pytestmark = pytest.mark.slow("pip makes an environment and waits for an index", minutes=0.3)

LOCKS = tuple(f"requirements{name}.txt" for name in ("", "-cuda", "-data", "-dev"))


def make(folder: Path, target: str, **environment: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    # Without uv, which needs no pip.
    folders = [one for one in kept["PATH"].split(":") if not Path(one, "uv").exists()]
    kept["PATH"] = ":".join(folders)
    command = ["make", f"PYTHON={sys.executable}", target]
    environment = {**kept, "PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0", **environment}
    return subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize("broken", [name for name in LOCKS if "cuda" not in name])
def test_an_index_out_of_reach_is_a_line_and_the_next_make_goes_on(tmp_path, broken):
    (tmp_path / "tools").mkdir()
    for name in ("Makefile", "tools/install.sh"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    ready = ".venv/.ready-dev" if broken == "requirements-dev.txt" else ".venv/.ready"
    for name in LOCKS:
        (tmp_path / name).touch()
    lock = tmp_path / broken
    lock.write_text("no-such-package==1.0 --hash=sha256:" + "0" * 64 + "\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    failed = make(tmp_path, ready, PIP_INDEX_URL=f"http://127.0.0.1:{port}/simple")
    assert failed.returncode != 0
    [expected] = seen("the package index is out of reach")
    own, of_make = failed.stderr.strip().splitlines()[-2:]
    assert re.fullmatch(expected, own), failed.stderr
    assert f" {broken}, " in own, "the lock whose packages are missing"
    assert of_make.startswith("make: ***")
    assert not (tmp_path / ready).exists()
    lock.write_text("")
    again = make(tmp_path, ready)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / ready).exists()


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_only_tests_and_the_linter_install_what_the_pipeline_does_not_need():
    def installed(target: str) -> set[str]:
        command = ["make", "--dry-run", "--always-make", f"PYTHON={sys.executable}", target]
        plan = subprocess.run(command, cwd=REPOSITORY, text=True, capture_output=True, check=True)
        return set(re.findall(r"requirements\S*[.]txt", plan.stdout))

    for target in ("setup", "repro", "check", "report", "impact", "verdict", "pull"):
        assert installed(target) == {*LOCKS} - {"requirements-dev.txt"}
    for target in ("test", "lint", "hook", "bench"):
        assert installed(target) == {*LOCKS}
