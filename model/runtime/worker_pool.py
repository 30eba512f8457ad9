"""Work on all cores: results come in the order of the jobs, whichever worker has done them."""

import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from common.errors import PipelineError

Job = TypeVar("Job")
Result = TypeVar("Result")

_shared: Any = None


def cores() -> int:
    """Return how many cores this process may use; macOS tells only how many there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    work: Callable[[Any, Job], Result],
    shared: Any,
    jobs: Sequence[Job],
    processes: int | None = None,
) -> Iterator[Result]:
    """Yield work(shared, job) for each of `jobs`, in order, computed by `processes` workers.

    If `processes` is None, there is one worker per core. `work` is a function of a module; `shared`
    is sent to each worker once. Jobs that have not begun are dropped when the iterator is closed or
    a job has failed. Raises what a job raises, and PipelineError if a worker is killed.
    """
    workers = max(1, min(processes or cores(), len(jobs)))
    with ProcessPoolExecutor(workers, initializer=_begin, initargs=(shared,)) as pool:
        try:
            for future in [pool.submit(_call, work, job) for job in jobs]:
                yield future.result()
        except BrokenProcessPool:
            raise PipelineError(
                "a worker process was killed, most likely for want of memory; run it again on "
                "fewer cores (taskset)"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _begin(shared: Any) -> None:
    global _shared
    _shared = shared
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as it is in the background
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # die of it without a traceback: the stage's own is enough


def _call(work: Callable[[Any, Job], Result], job: Job) -> Result:
    try:
        return work(_shared, job)
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301
        except Exception:  # cannot travel between processes, as a panic of native code
            raise RuntimeError("".join(traceback.format_exception(error))) from None
        raise
