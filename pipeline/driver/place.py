"""The interface between the driver and the place where instances run: a machine or a cluster."""

from typing import Any, NamedTuple, Protocol


class Job(NamedTuple):
    """One instance to run."""

    name: str  # in dvc.lock: STAGE, or STAGE@ITEM
    commands: tuple[str, ...]  # of dvc.yaml, with values filled in; mostly one
    threads: int  # the number of cores that it may use
    devices: tuple[str, ...] = ()  # its GPUs, as CUDA_VISIBLE_DEVICES names them
    folder: str = "."  # where the commands run, relative to the repository's root


class Outcome(NamedTuple):
    """The end of a job: its status and what it printed."""

    name: str
    status: int  # exit status; -N if signal N ended it
    log: str  # what it printed, without progress bars
    entry: dict[str, Any] | None = None  # for dvc.lock, if another machine has recorded the run


class Progress(NamedTuple):
    """A running instance's progress bar, in tqdm's terms."""

    label: str
    done: int
    total: int | None
    unit: str
    said: str
    seconds_left: float | None


class Machine(NamedTuple):
    """The resources that all jobs of a place share; up to `slots` jobs run side by side."""

    slots: int
    cores: int
    devices: tuple[str, ...] = ()  # GPUs


class Place(Protocol):
    """A machine or a cluster that runs jobs side by side."""

    @property
    def machine(self) -> Machine:
        """What its jobs share now; it changes when a cluster's workers come and go."""

    def start(self, job: Job) -> None:
        """Start a job; it runs until `finished` returns its outcome."""

    def finished(self, seconds: float) -> list[Outcome]:
        """Return the outcomes since the last call; wait up to `seconds` for the first."""

    def progress(self) -> dict[str, Progress]:
        """Return the progress of the running instances, by name."""

    def stop(self, number: int) -> None:
        """Send the signal `number`, once, to everything that runs."""

    def close(self) -> None:
        """End what the place has started for itself."""
