"""A Dask scheduler and workers on this machine, and a small DVC project for them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
from repository import REPOSITORY
from signals import as_in_a_terminal

DVC_YAML = """
stages:
  start:
    cmd: python stage.py start
    deps: [seed.txt, stage.py]
    outs: [made]
  half:
    matrix:
      name: [a, b, c]
    cmd: python stage.py half ${item.name}
    deps: [made/inside.txt, stage.py]
    params: [rate]
    outs: ["half_${item.name}.txt"]
    metrics: [{"half_${item.name}.json": {cache: false}}]
  join:
    cmd: python stage.py join
    deps: [half_a.txt, half_b.txt, half_c.txt, half_a.json, stage.py]
    outs: [join.txt]
  outside:
    meta: {network: true}
    cmd: python stage.py outside
    outs: [outside.txt]
  drawn:
    cmd: python stage.py drawn
    deps: [outside.txt]
    plots: [{drawn: {cache: false}}]
  page:
    cmd: python stage.py page
    deps: [drawn]
    outs: [page.txt]
  ignored:
    cmd: python stage.py ignored
    deps: [made/inside.txt, local.bin]
    outs: [ignored.txt]
  spread:
    meta: {resumable: true, spreads: [scatter, gather]}
    cmd: python stage.py spread
    outs: [spread.txt]
  many:
    meta: {resources: {MEMORY: 50}}
    cmd: python stage.py many
    outs: [many.txt]
"""
STAGE = """
import json, os, signal, sys, time
from pathlib import Path
name = "_".join(sys.argv[1:])
events = Path(os.environ.get("EVENTS", "."), "events")

def note(**more):
    about = {"name": name, "pid": os.getpid(), "folder": os.getcwd(), "parent": os.getppid()}
    for each in ("PIPELINE_SHARE", "PIPELINE_THREADS", "CUDA_VISIBLE_DEVICES", "DVC_STAGE", "DVC_ROOT"):
        about[each] = os.environ.get(each)
    with open(events, "a") as file:
        file.write(json.dumps(about | more) + "\\n")

def interrupted(number, _):
    note(signal=number)
    sys.exit(1)

signal.signal(signal.SIGINT, interrupted)
note()
limit = time.monotonic() + 60
while any(Path(hold).exists() for hold in (events.with_name("hold"), events.with_name("hold_" + name))):
    if time.monotonic() > limit:
        sys.exit("held for too long")
    time.sleep(0.02)
if "PIPELINE_SHARE" in os.environ:
    sys.exit()
inputs = {"join": ["half_b.txt", "half_a.json"], "half": ["made/inside.txt"], "ignored": ["made/inside.txt"]}
text = "".join(Path(each).read_text() for each in inputs.get(sys.argv[1], []))
if name == "start":
    Path("made").mkdir(exist_ok=True)
    Path("made/inside.txt").write_text("of " + Path("seed.txt").read_text())
    Path("made/other.txt").write_text("other")
elif name == "drawn":
    Path("drawn/more").mkdir(parents=True)
    Path("drawn/one").write_text(Path("outside.txt").read_text())
    Path("drawn/more/two").write_text("two")
elif name == "page":
    Path("page.txt").write_text(" ".join(sorted(map(str, Path("drawn").rglob("*")))))
else:
    Path(name + ".txt").write_text(name + text)
if name.startswith("half"):
    Path(name + ".json").write_text(json.dumps({"share": 0.1}))
print(name, "is done")
note(ends=True)
"""  # noqa: E501


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def git(root: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout


class Project:
    """A DVC project in git.

    Its stages write what they do into the file `events`, and wait while a file `hold` or hold_NAME
    is beside it.
    """

    def __init__(self, root: Path, environment: dict[str, str]):
        self.root, self.events_folder = root, root.parent
        self.environment = {**environment, "EVENTS": str(self.events_folder)}
        root.mkdir()
        for name, text in (
            ("dvc.yaml", DVC_YAML),
            ("stage.py", STAGE),
            ("seed.txt", "1\n"),
            ("params.yaml", "rate: 1.0e-4\n"),
            (".gitignore", "/made\n/*.txt\n!/seed.txt\n/local.bin\n"),
        ):
            (root / name).write_text(text)
        git(root, "init", "--quiet")
        self.dvc("init", "--quiet")
        git(root, "add", "--all")
        git(root, "commit", "--quiet", "--message", "project")

    def dvc(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def with_remote(self, store: Path) -> None:
        self.dvc("remote", "add", "--default", "store", str(store))
        git(self.root, "commit", "--quiet", "--all", "--message", "remote")

    def hold(self, name: str = "") -> Path:
        path = self.events_folder / (f"hold_{name}" if name else "hold")
        path.touch()
        return path

    def drive(self, *stages: str, cluster: Path | str) -> subprocess.Popen:
        command = [sys.executable, "-m", "pipeline.driver", "--cluster", str(cluster), *stages]
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=as_in_a_terminal,
        )

    def driven(self, *stages: str, cluster: Path | str, status: int = 0) -> str:
        with self.drive(*stages, cluster=cluster) as process:
            return self.ended(process, status)

    def ended(self, driver: subprocess.Popen, status: int = 0, seconds: float = 60) -> str:
        """Wait until a driver has ended with `status`; return what it printed."""
        try:
            said, _ = driver.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            driver.send_signal(signal.SIGABRT)  # PYTHONFAULTHANDLER then prints all stacks
            said, _ = driver.communicate()
            raise AssertionError(f"it did not end:\n{said}") from None
        assert driver.returncode == status, said
        return said

    @property
    def events(self) -> list[dict]:
        path = self.events_folder / "events"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines]

    def starts(self, name: str = "") -> list[dict]:
        return [
            each
            for each in self.events
            if not {"ends", "signal"} & each.keys() and name in (each["name"], "")
        ]


class Cluster:
    """A scheduler, and the workers that a test starts; all end with the test."""

    def __init__(self, folder: Path, environment: dict[str, str], *options: str):
        self.file, self._folder = folder / "scheduler.json", folder
        # Start the scheduler where it does not find pipeline/.
        self.environment = {key: environment[key] for key in environment if key != "PYTHONPATH"}
        self._count = 0
        self.processes: list[subprocess.Popen] = []
        self._start(folder, "scheduler", *(options or ("--host", "127.0.0.1")), "--port", "0")
        self.environment = environment
        wait_for(self.file.exists)

    def _start(self, cwd: Path, what: str, *options: str) -> subprocess.Popen:
        self._count += 1
        command = [sys.executable, "-m", "dask", what, "--scheduler-file", str(self.file)]
        with open(self._folder / f"{what}-{self._count}.log", "wb") as log:
            process = subprocess.Popen(
                [*command, "--no-dashboard", "--dashboard-address", "127.0.0.1:0", *options],
                cwd=cwd,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=as_in_a_terminal,
            )
        self.processes.append(process)
        return process

    def worker(self, cwd: Path, *options: str, host: bool = True) -> subprocess.Popen:
        """Start a worker without a nanny, so that the returned process is the worker itself."""
        loopback = ["--host", "127.0.0.1"] if host else []
        return self._start(cwd, "worker", "--no-nanny", *loopback, "--nthreads", "1", *options)

    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self._folder.glob("*.log")))

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
            process.kill()
            process.wait()


def environment() -> dict[str, str]:
    """Return the environment of drivers and workers, in which they find this pipeline/."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    without = {name: value for name, value in os.environ.items() if not name.startswith("DASK")}
    found = {**without, "PATH": path, "PYTHONPATH": str(REPOSITORY)}
    return found | {"PYTHONFAULTHANDLER": "1"}


@contextlib.contextmanager
def cluster_in(folder: Path, *options: str, **more: str) -> Iterator[Cluster]:
    folder.mkdir(exist_ok=True)
    cluster = Cluster(folder, {**environment(), **more}, *options)
    try:
        yield cluster
    finally:
        cluster.close()


def gone(process: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process).status() == psutil.STATUS_ZOMBIE
    return True


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
