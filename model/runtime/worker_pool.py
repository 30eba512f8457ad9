"""Work on all cores, with the results in the order of the jobs."""

import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import Any, TypeVar

from common.errors import PipelineError
from common.share import ShareDone, share_in
from model.runtime.cores import cores

Job = TypeVar("Job")
Result = TypeVar("Result")

# A fork of the sealed process has its seal; Python 3.14 would start another process to fork from.
# macOS's libraries do not survive a fork.
_METHOD = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
_shared: Any = None


def in_order(
    work: Callable[[Any, Job], Result],
    shared: Any,
    jobs: Sequence[Job],
    processes: int | None = None,
    phase: str | None = None,
    shown: Callable[[Iterator[Result], int], Iterable[Result]] = lambda results, count: results,
) -> Generator[Result, None, None]:
    """Yield work(shared, job) for each of `jobs`, in order.

    `processes` is the number of workers, None for one on each core. `shown` draws the progress: it
    gets the results and how many there will be, and returns the results.

    `phase` names the call if its jobs make pieces that processes may share (common/share.py). In
    such a process the call of its phase does the jobs of its share, yields nothing and raises
    ShareDone; all other calls do nothing and yield nothing.

    `work` must be a module's function; `shared` is sent to each worker once. When a job fails or
    the iterator is closed, waiting jobs are dropped. Raises what a job raises, and PipelineError if
    a worker is killed.
    """
    share = share_in(os.environ)
    if share is None:
        with closing(_results(work, shared, jobs, processes)) as results:
            yield from shown(results, len(jobs))
    elif share.phase == phase:
        mine = share.part(jobs)
        for _ in shown(_results(work, shared, mine, processes), len(mine)):
            pass
        raise ShareDone


def _results(
    work: Callable[[Any, Job], Result], shared: Any, jobs: Sequence[Job], processes: int | None
) -> Generator[Result, None, None]:
    workers = max(1, min(processes or cores(), len(jobs)))
    with ProcessPoolExecutor(workers, _METHOD, initializer=_begin, initargs=(shared,)) as pool:
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
    # SIGINT is ignored in the background. Else die without a traceback: the stage prints its own.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _call(work: Callable[[Any, Job], Result], job: Job) -> Result:
    try:
        return work(_shared, job)
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301
        except Exception:  # not picklable, for example a panic of native code
            raise RuntimeError("".join(traceback.format_exception(error))) from None
        raise
