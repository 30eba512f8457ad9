"""A pool of worker processes that returns results in the order of the jobs."""

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

# A fork of the sealed process keeps its seal. Python 3.14's default would fork from a separate
# server process instead. macOS's libraries fail after a fork, so Python's default is used there.
_METHOD = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
# In a worker: the value that all its jobs share.
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

    `work` must be a module's function. `shared` is sent to each worker once. `processes` is the
    number of workers, None for one on each core. `shown` draws the progress: it takes the results
    and their number, and returns the results.

    `phase` names the call if its jobs make pieces that processes may share (common/share.py). In a
    process with a share, the call of its phase does the jobs of the share, yields nothing and
    raises ShareDone. All other calls do nothing and yield nothing there.

    When a job fails or the iterator is closed, waiting jobs are dropped. Raises what a job raises,
    and PipelineError if a worker is killed.
    """
    share = share_in(os.environ)
    if share is None:
        # `closing` drops waiting jobs if the caller stops reading.
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
    """Yield the results of `jobs` in order, computed by at most as many workers as jobs."""
    # No more workers than jobs, and one even without jobs.
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
    """Prepare a worker: store the shared value, and let Ctrl-C end it."""
    global _shared
    _shared = shared
    # A shell's background job ignores SIGINT, and so does the worker. Otherwise the worker dies of
    # it without a traceback, since the stage prints its own message.
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _call(work: Callable[[Any, Job], Result], job: Job) -> Result:
    """Do a job in a worker; raise only errors that can be sent to the parent."""
    try:
        return work(_shared, job)
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301
        except Exception:
            # Not picklable, for example a panic of native code: send its traceback as text.
            raise RuntimeError("".join(traceback.format_exception(error))) from None
        raise
