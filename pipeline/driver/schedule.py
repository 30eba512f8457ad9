"""Which instance runs next, and with how many cores and which GPUs. Knows nothing of DVC."""

from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from typing import NamedTuple

from pipeline.driver.place import Machine

_UNKNOWN = 1.0  # seconds of an instance that has never run here


class Share(NamedTuple):
    """What an instance may use."""

    threads: int
    devices: tuple[str, ...]


class Schedule:
    """The instances of a run: each waits until all that it depends on is done.

    `upstream` has what each depends on, `devices` how many GPUs it needs, and `seconds` how long it
    took last. Of those that are ready, the one that begins the longest way to the end goes first.
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
        """Note that the place has other slots or cores now, with the same devices."""
        self._machine = machine

    def take(self) -> tuple[str, Share] | None:
        """Return an instance to start now, with its share; None if none is ready, or none fits."""
        slots = self._machine.slots - len(self._taken)
        if slots < 1:
            return None
        self._ready.sort(key=lambda name: -self._urgency[name])
        held = False  # what waits for several GPUs is not overtaken by what wants one
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
        """Give back the share of an instance; what waited only for it is ready now."""
        del self._above[name]
        self.give_back(name)
        for below in self._below[name]:
            self._above[below].discard(name)
            if not self._above[below]:
                self._ready.append(below)

    def give_back(self, name: str) -> None:
        """Give back the share of an instance that has failed; nothing below it will be ready."""
        share = self._taken.pop(name)
        self._free_devices = [
            each for each in self._machine.devices if each in {*self._free_devices, *share.devices}
        ]

    def _threads(self, starting: int) -> int:
        """Return an equal part of the cores that are free, for `starting` instances."""
        used = sum(share.threads for share in self._taken.values())
        return max(1, (self._machine.cores - used) // starting)

    def _ways_to_the_end(self, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return for each instance the seconds of the longest way from its beginning to the end."""
        ways: dict[str, float] = {}
        for name in _upstream_last(self._above):
            rest = max((ways[each] for each in self._below[name]), default=0.0)
            ways[name] = rest + seconds.get(name, _UNKNOWN)
        return ways


def _upstream_last(upstream: Mapping[str, set[str]]) -> list[str]:
    """Return the names, each before what it depends on."""
    return list(reversed([*TopologicalSorter(upstream).static_order()]))
