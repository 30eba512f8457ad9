"""Follow the runs that train now, beside the committed run's figures at the same step."""

import csv
import re
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.driver.state_file import DriverState, RunningInstance, read_state
from tools.live.follow import Follower, live_files

# By stage: the figures of a row to compare with the committed run's. A chart of plots/curves/ and
# its split have the same figures as the stage's table: model/curves/points.py reads them there.
CHARTS = {
    "pretrain": {
        "train_loss": ("loss", "train"),
        "train_bits_per_byte": ("bits_per_byte", "train"),
        "val_loss": ("loss", "val"),
        "val_bits_per_byte": ("bits_per_byte", "val"),
        "gradient_norm": ("gradient_norm", "train"),
        "learning_rate": ("learning_rate", "train"),
    },
    "sft": {"train_loss": ("sft_loss", "train")},
}
# The tables that a stage leaves at its end, below the folder of its condition and seed.
_TABLES = {
    "pretrain": ("losses", ("training.csv", "validation.csv")),
    "sft": ("sft_losses", ("training.csv",)),
}
LABELS = {
    "train_loss": "loss",
    "train_bits_per_byte": "bits per byte",
    "val_loss": "validation loss",
    "val_bits_per_byte": "val. bits per byte",
}
_PLACES = (
    (re.compile(r"checkpoints/([^/]+)/\.seed_(\d+)\.scratch/.*"), "pretrain"),
    (re.compile(r"sft/([^/]+)/seed_(\d+)/\.step_\d+\.scratch/.*"), "sft"),
)
# A run counts as stopped if its file has not grown for both of these: the seconds, and this many
# times its usual interval. Validation and checkpoints take longer than the steps between rows.
QUIET_SECONDS, QUIET_INTERVALS = 120.0, 10.0
# The seconds before the first training row, while the interval is unknown.
FIRST_QUIET_SECONDS = 1800.0

Row = dict[str, Any]
Curve = dict[int, float]  # by step


class Compared(NamedTuple):
    """One figure of a run: its newest value, and the committed run's.

    `committed_step` is the same step, or the nearest earlier one that the committed run logged.
    """

    label: str
    step: int
    value: float
    committed: float | None
    committed_step: int | None

    @property
    def difference(self) -> float | None:
        return None if self.committed is None else self.value - self.committed


class Run:
    """One run that trains, or has trained since this process began to watch it."""

    def __init__(self, stage: str, condition: str, seed: int, committed: Mapping[str, Curve]):
        self.stage, self.condition, self.seed = stage, condition, seed
        self.committed = committed
        self.training: list[Row] = []
        self.validation: list[Row] = []
        self.has_ended = False  # whether its file has gone, because the stage has finished
        self.quiet = 0.0  # seconds since its last row
        self.driven: RunningInstance | None = None

    @property
    def name(self) -> str:
        return f"{self.stage} {self.condition}/seed_{self.seed}"

    @property
    def instance(self) -> str:
        """Return the run's name in dvc.lock."""
        return f"{self.stage}@{self.condition}-{self.seed}"

    @property
    def is_running(self) -> bool:
        if self.has_ended:
            return False
        if self.driven is not None:
            return True
        interval = self._interval
        if interval is None:
            return self.quiet < FIRST_QUIET_SECONDS
        return self.quiet < max(QUIET_SECONDS, QUIET_INTERVALS * interval)

    @property
    def step(self) -> int:
        return max(
            (rows[-1]["step"] for rows in (self.training, self.validation) if rows), default=0
        )

    @property
    def steps(self) -> int:
        rows = self.training or self.validation
        return int(rows[-1]["steps"]) if rows else 0

    def last(self, key: str) -> float | None:
        """Return a figure of the newest training row that has it."""
        return _number(self.training[-1], key) if self.training else None

    def curve(self, key: str) -> Curve:
        """Return a figure by step."""
        points = ((row["step"], _number(row, key)) for row in [*self.training, *self.validation])
        return {step: value for step, value in points if value is not None}

    def compared(self) -> list[Compared]:
        """Return the newest losses and bits per byte beside the committed run's."""
        found = []
        for key, label in LABELS.items():
            curve = self.curve(key)
            if curve:
                step = max(curve)
                other = self.committed.get(key, {})
                before = max((each for each in other if each <= step), default=None)
                value = None if before is None else other[before]
                found.append(Compared(label, step, curve[step], value, before))
        return found

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows; one of an earlier step, as after a resume, replaces all from that step on."""
        for row in rows:
            kind, step = row.get("kind"), row.get("step")
            if kind not in ("training", "validation") or not isinstance(step, int):
                continue
            if not isinstance(row.get("steps"), int):
                continue
            mine, other = self.training, self.validation
            if kind == "validation":
                mine, other = other, mine
            while mine and mine[-1]["step"] >= step:
                mine.pop()
            while other and other[-1]["step"] > step:
                other.pop()
            mine.append(row)

    def cut(self) -> None:
        """Forget all rows, because the file is read again from its start."""
        self.training.clear()
        self.validation.clear()

    @property
    def _interval(self) -> float | None:
        """Return the longest interval between two training rows, in seconds; None if unknown."""
        steps = [0, *(int(row["step"]) for row in self.training)]
        longest = max((after - before for before, after in pairwise(steps)), default=0)
        for row in reversed(self.training):
            left, rest = _number(row, "seconds_left"), self.steps - int(row["step"])
            if left and rest > 0:
                return left / rest * longest
        return None


class Watch:
    """All that runs in the repository `root`; `poll` reads the files again."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time):
        self.root, self._clock = root, clock
        self.driver: DriverState | None = None
        self._followed: dict[Path, tuple[Follower, Run]] = {}

    def poll(self) -> list[Run]:
        """Read what is new; return the runs that have ended since the last call."""
        for path in live_files(self.root):
            if path not in self._followed and (run := self._run_of(path)):
                self._followed[path] = Follower(path), run
        self.driver = read_state(self.root)
        driven = {each.name: each for each in self.driver.running} if self.driver else {}
        ended = []
        for path, (follower, run) in list(self._followed.items()):
            restarts = follower.restarts
            rows = follower.poll()
            if follower.restarts != restarts:
                run.cut()
            run.add(rows)
            run.driven = driven.get(run.instance)
            with suppress(FileNotFoundError):
                run.quiet = self._clock() - path.stat().st_mtime
            if follower.ended:
                run.has_ended = True
                follower.close()
                del self._followed[path]
                ended.append(run)
        return ended

    @property
    def running(self) -> list[Run]:
        return [run for _, run in self._followed.values() if run.is_running and run.steps]

    @property
    def stopped(self) -> list[Run]:
        """Return the runs that stopped early; the next `make repro` resumes them."""
        return [run for _, run in self._followed.values() if not run.is_running and run.steps]

    @property
    def others(self) -> list[RunningInstance]:
        """Return the driver's instances that write no live.jsonl."""
        known = {run.instance for run in self.running}
        running = self.driver.running if self.driver else ()
        return [each for each in running if each.name not in known]

    def _run_of(self, path: Path) -> Run | None:
        place = path.relative_to(self.root).as_posix()
        for pattern, stage in _PLACES:
            if found := pattern.fullmatch(place):
                condition, seed = found[1], int(found[2])
                return Run(stage, condition, seed, committed(self.root, stage, condition, seed))
        return None


def committed(root: Path, stage: str, condition: str, seed: int) -> dict[str, Curve]:
    """Return the curves of the last finished run of the same name; nothing if there is none.

    They come from the stage's tables. DVC removes the tables when the stage starts; then they come
    from plots/curves/, which git keeps.
    """
    folder, names = _TABLES[stage]
    curves: dict[str, Curve] = {}
    for name in names:
        rows = read_table(root / folder / condition / f"seed_{seed}" / name)
        for key in CHARTS[stage]:
            _take(curves, key, [(row, key) for row in rows])
    for key, (chart, split) in CHARTS[stage].items():
        if key not in curves:
            rows = read_table(root / f"plots/curves/{chart}.csv")
            own = {"condition": condition, "seed": str(seed), "split": split}
            mine = [row for row in rows if own.items() <= row.items()]
            _take(curves, key, [(row, "value") for row in mine])
    return curves


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file; no rows if it is missing."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _take(curves: dict[str, Curve], key: str, cells: list[tuple[dict[str, str], str]]) -> None:
    for row, column in cells:
        with suppress(KeyError, TypeError, ValueError):
            curves.setdefault(key, {})[int(row["step"])] = float(row[column])


def _number(row: Row, key: str) -> float | None:
    value = row.get(key)
    return value if isinstance(value, int | float) else None
