"""The tiers of tests: `make test`, `make test-all` and `.ci/long` leave none out, and slow tests
say why.
"""

import re
import subprocess
import sys
import tomllib

import pytest
from repository import REPOSITORY
from slow_tests import fault_of

FOLDERS = {
    f"tests/{path.relative_to(REPOSITORY / 'tests').parts[0]}"
    for path in (REPOSITORY / "tests").rglob("test_*.py")
}


def given_to(target: str) -> list[str]:
    """Return what `make` gives to pytest for a target."""
    command = ["make", "--dry-run", "--always-make", target]
    said = subprocess.check_output(command, cwd=REPOSITORY, text=True)
    [line] = [line for line in said.splitlines() if "-m pytest" in line]
    return re.findall(r"(?<= )tests/\S+", line)


def test_every_folder_of_tests_is_in_one_tier():
    quick, both = given_to("test"), given_to("test-all")
    long = re.findall(r"tests/\w+", (REPOSITORY / ".ci/long").read_text().split("-m pytest")[1])
    assert both[: len(quick)] == quick
    assert len(set(both + long)) == len(both + long)
    assert {*both, *long} == FOLDERS


def test_ci_runs_all_tiers():
    assert "\nmake test-all\n" in (REPOSITORY / ".ci/run").read_text()
    jobs = (REPOSITORY / ".github/workflows/ci.yml").read_text()
    assert {".ci/run", ".ci/long"} <= set(re.findall(r"- run: (\S+)", jobs))


def test_every_slow_test_says_why(request):
    faults = [fault_of(item) for item in request.session.items]
    assert [fault for fault in faults if fault] == []


@pytest.mark.parametrize(
    ("marker", "fault"),
    [
        ("slow()", "says no reason"),
        ("slow(' ')", "says no reason"),
        ("slow(minutes=1)", "says no reason"),
        ("slow('x', minutes='two')", "minutes is no number"),
        ("slow('starts a browser', minutes=0.5)", None),
    ],
)
def test_a_marker_without_a_reason_is_found(marker, fault):
    class Item:
        nodeid = "a.py::b"

        def get_closest_marker(self, name: str):
            return eval(f"pytest.mark.{marker}").mark

    assert fault_of(Item()) == (fault and f"a.py::b: {fault}")


def test_every_test_has_a_limit_and_slow_ones_a_longer_one(request):
    limit = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["pytest"][
        "ini_options"
    ]["timeout"]
    assert 60 <= limit <= 300
    for item in request.session.items:
        marker = item.get_closest_marker("timeout")
        assert (marker is not None) == (item.get_closest_marker("slow") is not None), item.nodeid
        assert marker is None or limit < marker.args[0] <= 1800


def test_the_suites_own_tests_have_this_limit(request):
    plugin = request.config.pluginmanager.get_plugin("time_limit")
    hooks = request.config.hook.pytest_timeout_set_timer.get_hookimpls()
    assert plugin in [hook.plugin for hook in hooks]


TESTS = """
import time
import pytest

def test_quick(): pass

@pytest.mark.slow("it sleeps", minutes=1)
def test_explained(): time.sleep(0.3)

@pytest.mark.parametrize("how", ["passes", "fails"])
def test_unexplained(how):
    time.sleep(0.3)
    assert how == "passes"
"""


def test_slow_tests_without_a_reason_are_reported_and_the_slowest_start_first(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text("import slow_tests\nslow_tests.SLOW = 0.2\n")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "--rootdir", "."]
    done = subprocess.run(
        [*command, "-p", "slow_tests"],
        cwd=tmp_path,
        env={"PATH": "", "PYTHONPATH": str(REPOSITORY / "tests/helpers")},
        text=True,
        capture_output=True,
    )
    ran = re.findall(r"^test_it.py::test_(\w+)", done.stdout, flags=re.MULTILINE)
    assert ran == ["explained", "quick", "unexplained", "unexplained"]
    reported = re.findall(r"^SLOW \d+ s, no reason: (.*)$", done.stdout, flags=re.MULTILINE)
    assert sorted(reported) == [
        "test_it.py::test_unexplained[fails] (call)",
        "test_it.py::test_unexplained[passes] (call)",
    ]
