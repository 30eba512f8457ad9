"""Choose the next instance to run, its cores and its GPUs. This module does not depend on DVC."""

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from typing import NamedTuple

from pipeline.driver.place import Machine

_UNKNOWN = 1.0  # seconds that an instance counts for if it has never run here


class Share(NamedTuple):
    """The threads and GPUs that an instance may use."""

    threads: int
    devices: tuple[str, ...]


class Schedule:
    """The instances of a run: each waits until all that it depends on is done.

    `upstream` maps an instance to those that it depends on, `devices` to the number of GPUs that it
    needs, `seconds` to the time of its last run. Of the ready ones, the one at the start of the
    longest path to the end goes first.
    """

    def __init__(
        self,
        upstream: Mapping[str, Iterable[str]],
        machine: Machine,
        seconds: Mapping[str, float],
        devices: Mapping[str, int],
    ):
        self._machine = machine
        self._free_devices = list(machine.devices)
        self._needs = {name: min(devices.get(name, 0), len(machine.devices)) for name in upstream}
        self._above = {name: {*above} & upstream.keys() for name, above in upstream.items()}
        self._below: dict[str, list[str]] = {name: [] for name in upstream}
        for name, above in self._above.items():
            for each in above:
                self._below[each].append(name)
        self._urgency = self._ways_to_the_end(seconds)
        self._ready = [name for name, above in self._above.items() if not above]
        self._taken: dict[str, Share] = {}

    @property
    def finished(self) -> bool:
        """Whether every instance is done."""
        return not self._above

    def resize(self, machine: Machine) -> None:
        """Use the place's present slots and cores; its devices stay the same."""
        self._machine = machine

    def take(self) -> tuple[str, Share] | None:
        """Return an instance to start now, with its share; None if none is ready, or none fits."""
        slots = self._machine.slots - len(self._taken)
        if slots < 1:
            return None
        self._ready.sort(key=lambda name: -self._urgency[name])
        # Once an instance waits for GPUs, later ones may not take any: an instance that needs
        # several would otherwise never find them free together.
        held = False
        for name in self._ready:
            needed = self._needs[name]
            if needed and (held or needed > len(self._free_devices)):
                held = True
                continue
            share = Share(
                self._threads(min(slots, len(self._ready))),
                tuple(self._free_devices.pop(0) for _ in range(needed)),
            )
            self._ready.remove(name)
            self._taken[name] = share
            return name, share
        return None

    def done(self, name: str) -> None:
        """Return an instance's share; instances that waited only for it become ready."""
        del self._above[name]
        self.give_back(name)
        for below in self._below[name]:
            self._above[below].discard(name)
            if not self._above[below]:
                self._ready.append(below)

    def give_back(self, name: str) -> None:
        """Return the share of an instance that has failed; what depends on it never gets ready."""
        share = self._taken.pop(name)
        self._free_devices = [
            each for each in self._machine.devices if each in {*self._free_devices, *share.devices}
        ]

    def _threads(self, starting: int) -> int:
        """Return the threads for one of `starting` instances: an equal part of the free cores."""
        used = sum(share.threads for share in self._taken.values())
        return max(1, (self._machine.cores - used) // starting)

    def _ways_to_the_end(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return, for each instance, the seconds of the longest path from its start to the end."""
        ways: dict[str, float] = {}
        for name in _upstream_last(self._above):
            rest = max((ways[each] for each in self._below[name]), default=0.0)
            ways[name] = rest + seconds.get(name, _UNKNOWN)
        return ways


def _upstream_last(upstream: Mapping[str, set[str]]) -> list[str]:
    """Return the names, each before those that it depends on."""
    return list(reversed([*TopologicalSorter(upstream).static_order()]))
