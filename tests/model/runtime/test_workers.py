import os
import signal
import time
from pathlib import Path

import pytest

from common.errors import PipelineError
from model.runtime.worker_pool import in_order


def later_jobs_end_first(shared: int, job: int) -> tuple[int, int]:
    time.sleep(0.05 * (4 - job))
    return shared, job


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


def test_an_error_that_cannot_travel_between_processes_is_told_in_words():
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
