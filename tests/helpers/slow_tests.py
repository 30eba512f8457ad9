"""Mark slow tests: each has a reason and a longer limit, and starts before the others.

    pytestmark = pytest.mark.slow("five whole micro graphs", minutes=6)

`minutes` is the time of the file on two cores. Several processes take one file after another from
the list, so the longest files come first.
"""

import pytest

# Seconds for a slow test, including the fixtures that it is the first to use. Every other test has
# pyproject.toml's `timeout`.
LIMIT = 1500
# A test that takes more seconds than this needs a reason. It is only reported: machines differ.
SLOW = 10


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow(why, minutes=0): takes longer than other tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: -_minutes(item))
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(LIMIT))


def _minutes(item: pytest.Item) -> float:
    marker = item.get_closest_marker("slow")
    return marker.kwargs.get("minutes", 0) if marker else 0


def fault_of(item: pytest.Item) -> str | None:
    """Return the fault of a test's `slow` marker; None if it has none."""
    marker = item.get_closest_marker("slow")
    if marker is None:
        return None
    if not (marker.args and str(marker.args[0]).strip()):
        return f"{item.nodeid}: says no reason"
    if not isinstance(marker.kwargs.get("minutes", 0), int | float):
        return f"{item.nodeid}: minutes is no number"
    return None


def pytest_terminal_summary(terminalreporter) -> None:
    """List the tests that were slow but have no `slow` marker."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            is_test = isinstance(report, pytest.TestReport)
            if is_test and report.duration > SLOW and "slow" not in report.keywords:
                line = f"SLOW {report.duration:.0f} s, no reason: {report.nodeid} ({report.when})"
                terminalreporter.write_line(line)
