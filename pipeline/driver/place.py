"""Where instances run: the interface between the driver and a machine or a cluster."""

from typing import Any, NamedTuple, Protocol


class Job(NamedTuple):
    """One instance to run."""

    name: str  # in dvc.lock: STAGE, or STAGE@ITEM
    commands: tuple[str, ...]  # dvc.yaml's, filled in; most have one
    threads: int  # cores that it may use
    devices: tuple[str, ...] = ()  # its GPUs, as CUDA_VISIBLE_DEVICES names them
    folder: str = "."  # where the commands run, relative to the repository's root


class Outcome(NamedTuple):
    """How a job ended."""

    name: str
    status: int  # exit status; a signal's number as a negative one
    log: str  # what it printed, without progress bars
    entry: dict[str, Any] | None = None  # for dvc.lock, if its place has recorded the run


class Progress(NamedTuple):
    """What a running instance shows of itself; tqdm's terms."""

    label: str
    done: int
    total: int | None
    unit: str
    said: str
    seconds_left: float | None


class Machine(NamedTuple):
    """What all jobs of a place share: up to `slots` of them run side by side."""

    slots: int
    cores: int
    devices: tuple[str, ...] = ()  # GPUs


class Place(Protocol):
    """A machine or a cluster that runs jobs side by side."""

    @property
    def machine(self) -> Machine:
        """What its jobs share now; a cluster's workers come and go."""

    def start(self, job: Job) -> None:
        """Start a job; it runs until `finished` returns its outcome."""

    def finished(self, seconds: float) -> list[Outcome]:
        """Return the outcomes since the last call; wait up to `seconds` for one."""

    def progress(self) -> dict[str, Progress]:
        """Return what the running instances show, by name."""

    def stop(self, number: int) -> None:
        """Send the signal `number` to all that runs, once."""

    def close(self) -> None:
        """End what the place has started for itself."""
