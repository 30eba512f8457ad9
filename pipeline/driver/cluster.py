"""Run instances on the workers of a Dask cluster, on any number of machines.

`ClusterPlace` decides which worker runs what; Dask starts, cancels and watches the tasks. A worker
has the slots of `dask worker --nthreads` and the resources of `--resources`; GPU is one of them.
Workers may join and leave at any time.

    worker in this folder    ← command line
                             → status, log
    worker elsewhere         ← command line, commit, entries of dvc.lock, small files
                             → status, log, its own entry, small files; outputs by the DVC remote

pipeline/driver/worker.py is the worker's side. A worker is refused if its Python, its libraries or
its code of this package differ, and one elsewhere also if it cannot fetch the commit. Instances
with `network` in their meta run on the driver's machine, with its user's files and network.

A task goes this way (the method that moves it on):

    start ──→ queue ──_assign──→ running on a worker ──_task_ended──→ outcome
                ↑                      │
                └────── _try_again ────┘   its worker died; up to TRIES times

An instance whose meta has `spreads` goes through the queue once for each of its phases, as one
share for each worker in this folder, and at last as a whole, which puts the pieces together.

Threads: those of Dask, and those that fetch outputs, only append to deques, note a task's progress
and set `_look_at` and `_woken`. Everything else runs in the driver's thread, so the tables of
workers and tasks need no locks.
"""

import asyncio
import concurrent.futures
import ipaddress
import json
import logging
import os
import sys
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distributed import Client, Future, Security

from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.library_versions import FILE, declared_versions, installed_version
from pipeline.driver import worker as worker_side
from pipeline.driver.commit import Commit, NotSendable, fetch_outputs, push_outputs
from pipeline.driver.place import Job, Machine, Outcome, Place, Progress

CERTIFICATE = "python -m pipeline.driver.certificate"
START = f"start it as {Path(sys.executable).name} -m dask worker … in the repository's folder"
TRIES = 3  # how often a job is started at most
_PATIENCE = 10.0  # seconds to wait for an answer of the scheduler or a worker
_CLONING = 600.0  # seconds to wait until a worker has fetched the commit
_LOOK = 10.0  # seconds between two listings of the workers, if Dask reports no change
_DEVICES = 512  # more than any job needs; a worker's resource GPU is the real limit
_DIED_AGO = 6.0  # seconds after which a dead worker's keepers have ended its instances
_SCHEMES = ("tcp", "tls")


class ClusterError(Exception):
    """The reason why the cluster cannot be used, in one line."""


@dataclass
class _Worker:
    address: str
    host: str
    slots: int
    resources: dict[str, float]
    cores: int
    cpus: str
    shared: bool
    running: set[str] = field(default_factory=set)  # keys of tasks


@dataclass
class _Task:
    """A job, or a share of its pieces (`share`, in the form of PIPELINE_SHARE)."""

    job: Job
    needs: dict[str, float]
    share: str = ""
    not_before: float = 0.0
    died: list[str] = field(default_factory=list)  # hosts of workers that died meanwhile
    worker: str = ""
    future: Future[Any] | None = None


@dataclass
class _Spread:
    """A job whose pieces all workers make first, phase by phase."""

    task: _Task
    phases: list[str]
    left: int = 0  # shares of the current phase that have not ended
    failed: Outcome | None = None


class ClusterPlace:
    """The workers of the scheduler at `address`; `local` runs what must stay on this machine.

    Raises ClusterError.
    """

    def __init__(self, root: Path, address: str, local: Place):
        self._root, self._local = root, local
        self._run = f"pipeline-{uuid.uuid4().hex[:12]}"
        self._stopping: int | None = None
        self._workers: dict[str, _Worker] = {}  # by address, the admitted ones
        self._seen: dict[str, str] = {}  # address → name in Dask, also of refused workers
        self._removed: deque[str] = deque()  # addresses that Dask has reported as gone
        self._queue: deque[_Task] = deque()
        self._tasks: dict[str, _Task] = {}  # running ones, by key
        self._spreads: dict[str, _Spread] = {}  # by instance
        self._on_this_machine: set[str] = set()
        self._pushes: dict[str, concurrent.futures.Future[str] | None] = {}  # by instance
        self._outcomes: list[Outcome] = []
        self._progress: dict[str, Progress | None] = {}  # by key
        # Other threads append to these two: (key, result) of a task that has ended, and outcomes of
        # jobs whose outputs have arrived.
        self._ended: deque[tuple[str, Any]] = deque()
        self._arrived: deque[Outcome] = deque()
        self._woken = threading.Event()
        self._look_at = 0.0
        self._said_waiting = False
        self._fetching = ThreadPoolExecutor(2)
        self._commit = Commit(root)
        self._versions = _versions(root)
        self._token = self._leave_token()
        self._address = checked_address(address)
        self._client = self._connect()
        try:
            self._client.subscribe_topic("all", self._workers_changed)
            self._client.subscribe_topic(self._run, self._told)
            self._notice_workers()
            if self._seen and not self._workers:
                raise ClusterError("none of its workers can be used, see above")
        except BaseException:
            self.close()
            raise

    @property
    def machine(self) -> Machine:
        """What the workers have together, as far as they have joined."""
        # The driver starts a job for each slot. One that waits for a worker with a GPU must not
        # take the slot of a job that could run, so each task in the queue adds a slot.
        slots = sum(worker.slots for worker in self._workers.values()) + len(self._queue)
        cores = sum({worker.cpus: worker.cores for worker in self._workers.values()}.values())
        return Machine(max(1, slots), max(1, cores), tuple(map(str, range(_DEVICES))))

    def start(self, job: Job) -> None:
        meta = self._commit.meta(job.name)
        if meta.get("network"):
            self._start_here(job)
            return
        needs = {str(name): float(amount) for name, amount in meta.get("resources", {}).items()}
        if job.devices:
            needs["GPU"] = len(job.devices)
        task = _Task(job, needs)
        phases = list(meta.get("spreads", ()))
        # Shares write pieces to the scratch folder, which only workers in this folder have. With
        # one such worker, sharing gains nothing.
        if phases and sum(worker.shared for worker in self._workers.values()) > 1:
            self._spreads[job.name] = _Spread(task, phases)
            self._next_phase(self._spreads[job.name])
        else:
            self._queue.append(task)
        self._assign()

    def finished(self, seconds: float) -> list[Outcome]:
        until = time.monotonic() + seconds
        while True:
            self._tend()
            if self._on_this_machine:
                self._take_in(self._local.finished(0))
            outcomes, self._outcomes = self._outcomes, []
            left = until - time.monotonic()
            if outcomes or left <= 0:
                return outcomes
            self._woken.wait(min(left, 0.05 if self._on_this_machine else 0.5))
            self._woken.clear()

    def progress(self) -> dict[str, Progress]:
        shown = dict(self._local.progress())
        for task in self._queue:
            shown.setdefault(task.job.name, _waiting(self._why_it_waits(task)))
        for key, task in self._tasks.items():
            progress = self._progress.get(key)
            host = self._workers[task.worker].host if task.worker in self._workers else "?"
            if progress is not None:
                said = ", ".join(filter(None, [progress.said, f"on {host}"]))
                shown[task.job.name] = progress._replace(said=said)
            else:
                shown[task.job.name] = _waiting(f"on {host}")
        return shown

    def stop(self, number: int) -> None:
        self._local.stop(number)
        if self._stopping == number:
            return
        self._stopping = number
        while self._queue:
            self._outcome(self._queue.popleft(), Outcome("", -number, ""))
        busy = [worker.address for worker in self._workers.values() if worker.running]
        if busy:
            arguments = (worker_side.signal_all, self._run, number)
            loop = self._client.loop
            assert loop is not None
            loop.add_callback(
                lambda: self._client._run(*arguments, workers=busy, on_error="ignore")
            )

    def close(self) -> None:
        """Cancel what runs, so that the workers end it, and disconnect."""
        with suppress(OSError, TimeoutError, RuntimeError):  # the scheduler has gone
            futures = [task.future for task in self._tasks.values() if task.future]
            if futures:
                self._client.sync(
                    self._client._cancel, futures, force=True, callback_timeout=_PATIENCE
                )
        self._client.close(timeout=5)
        self._fetching.shutdown(cancel_futures=True)
        (self._root / worker_side.FOLDER / self._run).unlink(missing_ok=True)
        self._local.close()

    # Workers

    def _connect(self) -> Client:
        for name in ("distributed.client", "distributed.core", "distributed.batched"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # this module prints what matters
        security = Security()
        try:
            client = Client(
                self._address, security=security, timeout=_PATIENCE, set_as_default=False
            )
            scheduler = client.scheduler_info(n_workers=0)["address"]
        except (OSError, TimeoutError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ClusterError(f"no scheduler answers at {self._address}: {reason}") from None
        if not _is_private(scheduler):
            client.close(timeout=1)
            raise ClusterError(
                f"the scheduler at {self._address} also listens at {scheduler}, where anybody who "
                "reaches this machine may run commands; start it with --host 127.0.0.1, or with "
                f"TLS ({CERTIFICATE})"
            )
        return client

    def _leave_token(self) -> str:
        """Write random text into a file; a worker that can read it has this very folder."""
        token = uuid.uuid4().hex
        path = self._root / worker_side.FOLDER / self._run
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(token)
        return token

    def _workers_changed(self, event: tuple[float, Any]) -> None:
        """Note workers that come and go. Dask's thread calls this for each event."""
        message = event[1]
        action = message.get("action") if isinstance(message, dict) else None
        if action == "remove-worker":
            self._removed.append(message["worker"])
        if action in ("add-worker", "remove-worker"):
            self._look_at = 0.0
            self._woken.set()

    def _told(self, event: tuple[float, Any]) -> None:
        """Note the progress of a task. Dask's thread calls this."""
        shown = event[1]["progress"]
        self._progress[event[1]["key"]] = None if shown is None else Progress(*shown)

    def _notice_workers(self) -> None:
        """Admit workers that have joined; queue again what ran on workers that have died.

        `_seen` also keeps refused workers, so that each refusal is printed once.
        """
        self._look_at = time.monotonic() + _LOOK
        removed = {self._removed.popleft() for _ in range(len(self._removed))}
        scheduler = self._client.scheduler
        assert scheduler is not None
        present = self._client.sync(scheduler.identity, n_workers=-1, callback_timeout=_PATIENCE)[
            "workers"
        ]
        # A worker may die and come back at the same address between two calls. `present` lists it,
        # but what ran there is lost, so `removed` counts first.
        for address in [each for each in self._seen if each in removed or each not in present]:
            del self._seen[address]
            gone = self._workers.pop(address, None)
            if gone is not None:
                for key in list(gone.running):
                    self._try_again(key, gone.host)
        new = {address: info for address, info in present.items() if address not in self._seen}
        if new:
            self._seen |= {address: str(info["name"]) for address, info in new.items()}
            self._admit(new)

    def _admit(self, new: dict[str, Any]) -> None:
        """Admit or refuse new workers by address, answer, versions and, if needed, a clone."""
        private = [address for address in new if _is_private(address)]
        for address in new.keys() - private:
            self._refuse(address, "its address is neither this machine's own nor inside TLS")
        fit: dict[str, dict[str, Any]] = {}
        answers = self._ask(private, worker_side.about, self._run, sorted(self._versions))
        for address, answer in answers.items():
            if isinstance(answer, OSError):  # or TimeoutError, a subclass
                self._refuse(address, _reason(answer))
            elif isinstance(answer, BaseException):
                self._refuse(address, f"{_reason(answer)}; {START}")
            elif problems := self._differences(answer):
                self._refuse(address, "; ".join(problems))
            else:
                fit[address] = answer
        apart = [address for address, answer in fit.items() if answer["token"] != self._token]
        for address, problem in self._make_clones(apart).items():
            self._refuse(address, problem)
            del fit[address]
        for address, answer in fit.items():
            info = new[address]
            self._workers[address] = _Worker(
                address,
                answer["host"],
                info["nthreads"],
                dict(info["resources"]),
                answer["cores"],
                answer["cpus"],
                shared=answer["token"] == self._token,
            )

    def _differences(self, answer: dict[str, Any]) -> list[str]:
        """Return the reasons why a worker is unfit, a few words each."""
        python = ".".join(map(str, sys.version_info[:2]))
        found = [
            f"it listens at {address} without TLS; start it with --host 127.0.0.1"
            for address in answer["listens"]
            if not _is_private(address)
        ]
        if answer["python"] != python:
            found.append(f"Python is {answer['python']}, here it is {python}")
        for name, version in self._versions.items():
            has = answer["versions"].get(name)
            if has != version:
                found.append(f"{name} is {has or 'not installed'}, and should be {version}")
        if not found and answer["code"] != worker_side.CODE:
            found.append(
                f"it was started with other code of pipeline/driver ({answer['folder']}); start it "
                "again, at this commit"
            )
        return found

    def _make_clones(self, addresses: list[str]) -> dict[str, str]:
        """Make workers check out this commit; return the problems of those that cannot."""
        if not addresses:
            return {}
        try:
            commit, sources = self._commit.sendable()
        except NotSendable as reason:
            return dict.fromkeys(addresses, f"it does not share this folder, and {reason}")
        answers = self._ask(addresses, worker_side.clone, commit, sources, seconds=_CLONING)
        problems = {
            address: _reason(answer) if isinstance(answer, BaseException) else str(answer)
            for address, answer in answers.items()
        }
        return {address: problem for address, problem in problems.items() if problem}

    def _ask(
        self,
        addresses: list[str],
        function: Callable[..., Any],
        *arguments: Any,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """Call a function on all workers at once; return its result or exception by address.

        Each worker has its own time limit, so a suspended one delays the others no longer than
        that.
        """
        limit = _PATIENCE if seconds is None else seconds
        client = self._client

        async def ask(address: str) -> Any:
            asked = client._run(function, *arguments, workers=[address], on_error="return")
            try:
                answers: dict[str, Any] = await asyncio.wait_for(asked, limit)
            except (OSError, TimeoutError):
                return TimeoutError(f"no answer within {limit:g} s")
            return answers.get(address, OSError("it has gone"))

        async def ask_all() -> list[Any]:
            return await asyncio.gather(*map(ask, addresses))

        return dict(zip(addresses, client.sync(ask_all), strict=True))

    def _refuse(self, address: str, why: str) -> None:
        name = self._seen[address]
        named = address if name == address else f"{name} ({address})"
        print(f"cluster: worker {named} is refused: {why}", file=sys.stderr, flush=True)

    # Tasks

    def _tend(self) -> None:
        if self._client.status != "running":
            self._scheduler_is_gone()
            return
        if time.monotonic() >= self._look_at:
            try:
                self._notice_workers()
            except (OSError, TimeoutError) as error:
                self._look_at = time.monotonic() + 1
                print(f"cluster: {_reason(error)}", file=sys.stderr, flush=True)
        while self._ended:
            self._task_ended(*self._ended.popleft())
        while self._arrived:
            self._outcomes.append(self._arrived.popleft())
        self._assign()

    def _assign(self) -> None:
        """Start what can start, in the order of the queue.

        `held` has the resources that an earlier task waits for. A later task that needs one of them
        waits too: otherwise small tasks would keep taking the GPUs that a large one needs together.
        """
        held: set[str] = set()
        for task in list(self._queue):
            if task.not_before > time.monotonic() or held & task.needs.keys():
                continue
            if self._must_stay(task):
                self._queue.remove(task)
                self._start_here(task.job)
                continue
            worker = self._worker_for(task)
            if worker is None:
                held |= task.needs.keys()
                continue
            if not worker.shared and not self._is_pushed(task):
                continue
            self._queue.remove(task)
            self._submit(task, worker)

    def _is_pushed(self, task: _Task) -> bool:
        """Return whether the DVC remote has a task's inputs; start a push of those it may lack."""
        upstream = self._commit.upstream(task.job.name)
        if new := sorted(upstream - self._pushes.keys()):
            push = self._fetching.submit(push_outputs, self._root, new)
            self._pushes |= dict.fromkeys(new, push)
            push.add_done_callback(lambda _: self._woken.set())
        pushes = [each for name in upstream if (each := self._pushes[name]) is not None]
        if not all(each.done() for each in pushes):
            return False
        problem = next(filter(None, (each.result() for each in pushes)), None)
        if problem:
            self._queue.remove(task)
            log = f"error: {task.job.name}: its inputs cannot be pushed: {problem}\n"
            self._outcome(task, Outcome("", 1, log))
        return not problem

    def _must_stay(self, task: _Task) -> bool:
        """Return whether only this machine can get the task's inputs."""
        shared = any(worker.shared for worker in self._workers.values())
        return bool(self._workers) and not shared and not self._commit.has_inputs(task.job.name)

    def _worker_for(self, task: _Task) -> _Worker | None:
        """Return the worker to run a task; None if none has room.

        Workers in this folder come first, since they need no transfers; of these, the one with the
        most free slots. Shares run only there, because they write to one scratch folder.
        """
        fitting = [
            worker
            for worker in self._workers.values()
            if len(worker.running) < worker.slots
            and (worker.shared or (not task.share and self._commit.has_inputs(task.job.name)))
            and self._has(worker, task.needs)
        ]
        free = {each.address: each.slots - len(each.running) for each in fitting}
        return max(fitting, key=lambda each: (each.shared, free[each.address]), default=None)

    def _has(self, worker: _Worker, needs: dict[str, float]) -> bool:
        used: Counter[str] = Counter()
        for key in worker.running:
            used.update(self._tasks[key].needs)
        return all(worker.resources.get(name, 0) - used[name] >= needs[name] for name in needs)

    def _why_it_waits(self, task: _Task) -> str:
        wanted = " and ".join(f"{amount:g} {name}" for name, amount in task.needs.items())
        able = any(
            all(worker.resources.get(name, 0) >= task.needs[name] for name in task.needs)
            for worker in self._workers.values()
        )
        if able or not self._workers:
            return "waits for a worker"
        return f"waits: no worker has {wanted}; dask worker --resources says what one has"

    def _submit(self, task: _Task, worker: _Worker) -> None:
        job = task.job
        key = f"{job.name}-{task.share.replace(' ', '-')}{uuid.uuid4().hex[:8]}"
        # Workers with the same `cpus` run on the same cores, and share them equally by slots.
        beside = sum(each.slots for each in self._workers.values() if each.cpus == worker.cpus)
        sent = {
            "driver": self._run,
            "name": job.name,
            "commands": list(job.commands),
            "folder": job.folder,
            "threads": max(1, worker.cores // beside),
            "devices": len(job.devices),
            "share": task.share,
            "clone": None if worker.shared else self._commit.inputs(job.name),
        }
        task.worker = worker.address
        worker.running.add(key)
        self._tasks[key] = task
        task.future = self._client.submit(
            _run_there(),
            sent,
            key=key,
            workers=[worker.address],
            resources=task.needs or None,
            pure=False,
        )
        task.future.add_done_callback(lambda future: self._done(key, future))

    def _done(self, key: str, future: Future[Any]) -> None:
        """Note how a task ended. A thread of Dask calls this."""
        try:
            self._ended.append((key, future.result(timeout=60)))
        except BaseException as error:
            self._ended.append((key, error))
        self._woken.set()

    def _task_ended(self, key: str, result: Any) -> None:
        task = self._tasks.get(key)
        if task is None:  # its worker died, and the task is in the queue again
            return
        if isinstance(result, BaseException):
            if type(result).__name__ in ("CancelledError", "FutureCancelledError", "KilledWorker"):
                host = self._workers[task.worker].host if task.worker in self._workers else "?"
                self._try_again(key, host)
                return
            log = f"error: {task.job.name}: on worker {task.worker}: {_reason(result)}\n"
            result = {"status": 1, "log": log}
        self._forget(key)
        outcome = Outcome(task.job.name, result["status"], result["log"])
        if "entry" not in result:
            self._outcome(task, outcome)
            return
        self._pushes[task.job.name] = None  # the worker has pushed its outputs
        fetched = self._fetching.submit(fetch_outputs, self._root, self._commit, outcome, result)
        fetched.add_done_callback(self._received)

    def _received(self, done: "concurrent.futures.Future[Outcome]") -> None:
        """Note that a job's outputs are here. The thread that has fetched them calls this."""
        self._arrived.append(done.result())
        self._woken.set()

    def _try_again(self, key: str, host: str) -> None:
        task = self._tasks[key]
        self._forget(key)
        task.died.append(host)
        if self._stopping is not None:
            self._outcome(task, Outcome("", -self._stopping, ""))
        elif len(task.died) >= TRIES:
            hosts = ", ".join(task.died)
            log = f"error: {task.job.name}: {TRIES} workers died while it ran, on {hosts}\n"
            self._outcome(task, Outcome("", 1, log))
        else:
            print(
                f"cluster: {task.job.name}: its worker on {host} died; another try", file=sys.stderr
            )
            # The dead worker's keeper needs some seconds to end the stage, which holds its lock.
            task.not_before = time.monotonic() + _DIED_AGO
            self._queue.append(task)

    def _forget(self, key: str) -> None:
        task = self._tasks.pop(key)
        self._progress.pop(key, None)
        if task.worker in self._workers:
            self._workers[task.worker].running.discard(key)
        if task.future is not None:
            task.future.release()
            task.future = None

    def _outcome(self, task: _Task, outcome: Outcome) -> None:
        """Note how a task ended.

        For a whole job, that is the job's outcome. For a share, start the next phase after the last
        share of this one. If a share fails, drop those in the queue; those that run may end, and
        then the job has failed.
        """
        outcome = outcome._replace(name=task.job.name)
        spread = self._spreads.get(task.job.name)
        if not task.share or spread is None:
            self._outcomes.append(outcome)
            return
        spread.left -= 1
        if outcome.status and spread.failed is None:
            spread.failed = outcome
            for waiting in [each for each in self._queue if each.job.name == task.job.name]:
                self._queue.remove(waiting)
                spread.left -= 1
        if spread.left:
            return
        if self._stopping is not None and spread.failed is None:
            spread.failed = outcome._replace(status=-self._stopping)
        if spread.failed is not None:
            del self._spreads[task.job.name]
            self._outcomes.append(spread.failed)
        else:
            self._next_phase(spread)

    def _next_phase(self, spread: _Spread) -> None:
        job = spread.task.job
        if not spread.phases:
            del self._spreads[job.name]
            self._queue.append(spread.task)
            return
        phase = spread.phases.pop(0)
        spread.left = max(1, sum(worker.shared for worker in self._workers.values()))
        for number in range(spread.left):
            share = f"{phase} {number}/{spread.left}"
            self._queue.append(_Task(job, spread.task.needs, share))

    def _start_here(self, job: Job) -> None:
        self._on_this_machine.add(job.name)
        self._local.start(job._replace(devices=(), threads=self._local.machine.cores))

    def _take_in(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            self._on_this_machine.discard(outcome.name)
            self._outcomes.append(outcome)

    def _scheduler_is_gone(self) -> None:
        tasks = [*self._tasks.values(), *self._queue]
        self._queue.clear()
        for key in list(self._tasks):
            self._forget(key)
        for task in tasks:
            log = f"error: {task.job.name}: the scheduler at {self._address} is gone\n"
            self._outcome(task, Outcome("", 1, log))


def checked_address(address: str) -> str:
    """Return a scheduler's address, read from its file if `address` is a path.

    Raises ClusterError if it leads to another machine without TLS: anybody who reaches a scheduler
    or a worker without TLS can run commands there.
    """
    if os.sep in address.partition("://")[0] or address.endswith(".json"):
        address = _address_in(Path(address))
    encrypted = Security().get_tls_config_for_role("client")["ca_file"] is not None
    if "://" not in address:
        address = f"{'tls' if encrypted else 'tcp'}://{address}"
    scheme = urlsplit(address).scheme
    if scheme not in _SCHEMES:
        raise ClusterError(f"{address}: a scheduler's address is tls://HOST:PORT, or tcp:// here")
    if not _is_private(address):
        raise ClusterError(
            f"{address} is another machine's and not inside TLS; {CERTIFICATE} makes certificates, "
            "with which scheduler and workers are tls://"
        )
    if scheme == "tls" and not encrypted:
        raise ClusterError(f"{address}: Dask is not told which certificates to use; {CERTIFICATE}")
    return address


def _address_in(file: Path) -> str:
    """Return the address in a scheduler's file; wait for the file if the scheduler is starting.

    Raises ClusterError.
    """
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            return str(json.loads(file.read_text())["address"])
        except (KeyError, OSError, TypeError, ValueError) as error:
            if time.monotonic() > until:
                raise ClusterError(f"{file} is no scheduler's file: {error!r}") from None
        time.sleep(0.1)


def _is_private(address: str) -> bool:
    """Return whether only this machine, or holders of a certificate, can reach an address."""
    parts = urlsplit(address)
    if parts.scheme == "tls":
        return True
    host = parts.hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _run_there() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return a function that calls the worker's `run`.

    A nested function is pickled by its code, a top-level one by its module's name. The scheduler
    unpickles it too, and may run where it finds neither this package nor DVC.
    """

    def run(task: dict[str, Any]) -> dict[str, Any]:
        from pipeline.driver import worker

        return worker.run(task)

    return run


def _versions(root: Path) -> dict[str, str | None]:
    """Return the versions that a worker must have: of libraries.yaml, and our DVC and Dask."""
    tree = WorkingTree(root)
    stages = declared_versions(tree).values() if tree.has(FILE) else ()
    declared = {name: version for libraries in stages for name, version in libraries.items()}
    return {**declared, **{name: installed_version(name) for name in ("dvc", "distributed")}}


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1]}" if lines else type(error).__name__


def _waiting(label: str) -> Progress:
    return Progress(label, 0, None, "", "", None)
