import copyreg
import os
import signal
import time
from pathlib import Path

import pytest

from common.errors import PipelineError
from common.share import SHARE, Share, ShareDone
from model.runtime.worker_pool import in_order


def later_jobs_end_first(shared: int, job: int) -> tuple[int, int]:
    time.sleep(0.05 * (4 - job))
    return shared, job


def write(directory: Path, job: int) -> None:
    (directory / str(job)).touch()


def write_and_fail(directory: Path, job: int) -> int:
    (directory / str(job)).touch()
    if job == 1:
        raise PipelineError("job 1 cannot be done")
    time.sleep(0.05)
    return job


def kill_itself(shared: None, job: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class TwoArguments(Exception):
    """An exception that cannot be made again from what it is pickled as."""

    def __init__(self, what: str, where: str):
        super().__init__(f"{what} at {where}")


def raise_what_cannot_travel(shared: None, job: int) -> None:
    raise TwoArguments("panic", f"document {job}")


def test_an_error_that_cannot_travel_between_processes_is_told_in_words(monkeypatch):
    # Dask, if another test has imported it, lets every exception travel; a stage has no Dask.
    for kind in (TwoArguments, RuntimeError):
        monkeypatch.delitem(copyreg.dispatch_table, kind, raising=False)
    with pytest.raises(
        RuntimeError, match=r"(?s)raise_what_cannot_travel.*TwoArguments: panic at document 0"
    ):
        list(in_order(raise_what_cannot_travel, None, range(2), 2))


@pytest.mark.parametrize("processes", [1, 2, 4, None])
def test_results_come_in_the_order_of_the_jobs(processes):
    assert list(in_order(later_jobs_end_first, 7, range(4), processes)) == [
        (7, job) for job in range(4)
    ]
    assert list(in_order(later_jobs_end_first, 7, [], processes)) == []


def test_a_failing_job_ends_the_work_with_its_own_error(tmp_path):
    with pytest.raises(PipelineError, match="job 1 cannot be done"):
        list(in_order(write_and_fail, tmp_path, range(100), 2))
    assert len(list(tmp_path.iterdir())) < 20


@pytest.mark.parametrize("processes", [1, 2])
def test_a_share_does_its_jobs_and_goes_no_further(tmp_path, monkeypatch, processes):
    monkeypatch.setenv(SHARE, "phase 2/3")
    seen = []

    def shown(results, count):
        seen.append(count)
        yield from results

    for phase in (None, "another"):
        assert list(in_order(write, tmp_path, range(8), processes, phase, shown)) == []
    assert list(tmp_path.iterdir()) == seen == []
    with pytest.raises(ShareDone):
        next(in_order(write, tmp_path, range(8), processes, "phase", shown))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "5"]
    assert seen == [2]


def test_a_share_of_more_than_there_is_does_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(SHARE, "phase 5/6")
    with pytest.raises(ShareDone):
        list(in_order(write, tmp_path, range(3), phase="phase"))
    assert list(tmp_path.iterdir()) == []


def test_shares_are_all_of_the_jobs_once():
    jobs = range(11)
    for total in (1, 2, 5, 11, 20):
        parts = [Share("phase", number, total).part(jobs) for number in range(total)]
        assert sorted(job for part in parts for job in part) == list(jobs)


def test_jobs_that_nobody_waits_for_are_not_begun(tmp_path):
    results = in_order(write_and_fail, tmp_path, [2, *range(3, 100)], 2)
    assert next(results) == 2
    results.close()
    assert len(list(tmp_path.iterdir())) < 20


def test_a_killed_worker_is_one_line():
    with pytest.raises(
        PipelineError, match="a worker process was killed, most likely for want of memory"
    ):
        list(in_order(kill_itself, None, range(4), 2))
