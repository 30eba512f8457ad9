"""A test that hangs is ended by name, with the processes that it started, and the others run
(tests/helpers/time_limit.py).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from repository import REPOSITORY

pytestmark = pytest.mark.slow("tests hang until their limit", minutes=0.3)

HOOKS = ("pytest_runtest_protocol", "pytest_timeout_cancel_timer", "pytest_timeout_set_timer")
CONFTEST = f"from time_limit import {', '.join(HOOKS)}\n"
TESTS = """
import ctypes, subprocess, time
from pathlib import Path

import pytest

HERE = Path(__file__).parent

def test_waits_for_a_process():
    # Its child has a child, which would outlive it, as what make starts would.
    subprocess.run(["sh", "-c", f"sleep 600 & echo $! > {HERE}/waits; echo $$ >> {HERE}/waits; wait"])

def test_takes_any_exception():
    (HERE / "takes").write_text(str(subprocess.Popen(["sleep", "600"]).pid))
    while True:
        try:
            time.sleep(600)
        except BaseException:
            pass

def test_keeps_python_from_running():
    # A condition that nothing signals, waited for in C with Python's lock held.
    ctypes.PyDLL(None).pthread_cond_wait(ctypes.create_string_buffer(256), ctypes.create_string_buffer(256))

@pytest.fixture
def broken():
    yield
    time.sleep(600)

def test_fails_before_its_fixture_hangs(broken):
    assert False

def test_the_next_one():
    pass
"""  # noqa: E501


@pytest.fixture(scope="module")
def hung(tmp_path_factory) -> tuple[Path, str]:
    """The folder of tests that hang, run under a limit of a second, and what pytest printed."""
    folder = tmp_path_factory.mktemp("hung")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS)
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests/helpers")])
    environment = {**os.environ, "PYTHONPATH": paths, "TEST_TIME_LIMIT_GRACE": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--timeout",
        "1",
        "-n",
        "1",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        ".",
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 1
    return folder, done.stdout


def left(names: Path) -> list[Path]:
    """Return those of the processes whose ids the file has that still run."""
    stats = [Path(f"/proc/{number}/stat") for number in names.read_text().split()]
    return [
        path
        for path in stats
        if path.exists() and path.read_text().rpartition(")")[2].split()[0] != "Z"
    ]


def test_a_wait_for_a_process_is_ended_by_name_with_all_that_was_started(hung):
    folder, said = hung
    assert "Failed: test_it.py::test_waits_for_a_process has run for more than 1 s" in said
    assert left(folder / "waits") == []


def test_what_cannot_be_interrupted_ends_its_process(hung):
    folder, said = hung
    name = "test_it.py::test_takes_any_exception"
    assert f"{name} has run for more than 1 s and cannot be interrupted; this process exits" in said
    assert re.search(f"worker 'gw.' crashed while running '{name}'", said)
    assert left(folder / "takes") == []


def test_a_native_call_that_keeps_python_from_running_is_ended(hung):
    assert re.search(
        "worker 'gw.' crashed while running 'test_it.py::test_keeps_python_from_running'", hung[1]
    )


def test_a_fixture_of_a_failed_test_has_the_limit_too(hung):
    assert (
        "Failed: test_it.py::test_fails_before_its_fixture_hangs has run for more than 1 s"
        in hung[1]
    )


def test_the_other_tests_run(hung):
    assert "4 failed, 1 passed, 1 error" in hung[1]
