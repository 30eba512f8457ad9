"""Forward the figures of runs that train to TensorBoard, W&B, MLflow or trackio.

    python -m tools.live.track tensorboard
    python -m tools.live.track mlflow --folder trackers --once

Run it beside `make repro`, in an environment of its own that has the tracker and PyYAML;
docs/operations.md shows how to make one. Ctrl-C ends it. It reads live.jsonl of all runs of this
repository, and forwards each row once, even if a run resumes after a kill or this command is
restarted: FOLDER/TRACKER.json records the last step.

In the tracker, a run is called CONDITION/seed_S, and its scalars pretrain/train_loss and so on, by
step. If a run's code or parameters change, or if it runs again after its end, its figures go to a
new run, CONDITION/seed_S_2. Writes only to FOLDER, unless the tracker's own variables (WANDB_MODE,
MLFLOW_TRACKING_URI, TRACKIO_SPACE_ID) name a server.
"""

import argparse
import importlib
import io
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn, Protocol

# Import nothing else of this project: a tracker's environment has neither torch nor our libraries.
from pipeline.terminal.streams import go_on_unread
from tools.live.follow import Follower, live_files

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "gpt2-ablation"
_PAUSE = 1.0  # seconds
_NO_FIGURES = {"kind", "run", "step", "steps"}
# The fields of each CONDITION/seed_S in TRACKER.json.
_STATE = {"id": str, "number": int, "works": dict, "steps": dict, "folders": dict}


class FollowedRun(NamedTuple):
    """A run in the tracker: its name, and an id that is unique among all clones."""

    name: str
    id: str


class Tracker(Protocol):
    """A tracker, which receives figures."""

    def log(self, run: FollowedRun, step: int, figures: dict[str, float]) -> None:
        """Log figures of a step of a run; their names begin with the stage."""

    def flush(self) -> None:
        """Return once all figures are stored, so that a kill afterwards loses none."""

    def close(self) -> None:
        """End all runs."""


class TensorBoard:
    """TensorBoard's event files, in one folder per run."""

    def __init__(self, folder: Path):
        self._writer = _package(
            lambda: importlib.import_module("tensorboard.summary"), "tensorboard"
        ).Writer
        self._folder = folder / "tensorboard"
        self._writers: dict[FollowedRun, Any] = {}

    def log(self, run: FollowedRun, step: int, figures: dict[str, float]) -> None:
        if run not in self._writers:
            self._writers[run] = self._writer(str(self._folder / run.name))
        for name, figure in figures.items():
            self._writers[run].add_scalar(name, figure, step)

    def flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class WeightsAndBiases:
    """Runs of W&B; with WANDB_MODE=offline, in files that `wandb sync` uploads."""

    def __init__(self, folder: Path):
        self._wandb = _package(lambda: importlib.import_module("wandb"), "wandb")
        self._folder = folder
        self._runs: dict[FollowedRun, Any] = {}

    def log(self, run: FollowedRun, step: int, figures: dict[str, float]) -> None:
        if run not in self._runs:
            self._runs[run] = self._wandb.init(
                project=PROJECT,
                name=run.name,
                id=run.id,
                dir=str(self._folder),
                resume="allow",
                reinit="create_new",
            )
        # W&B's own step cannot decrease, as it would from pretrain's last step to sft's first.
        stages = {name.partition("/")[0] for name in figures}
        for stage in stages:
            self._runs[run].define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        self._runs[run].log({**figures, **{f"{stage}/step": step for stage in stages}})

    def flush(self) -> None:
        pass  # a thread of W&B writes and uploads

    def close(self) -> None:
        for run in self._runs.values():
            run.finish()


class MLflow:
    """Runs of the experiment gpt2-ablation, in FOLDER or on the server of MLFLOW_TRACKING_URI."""

    def __init__(self, folder: Path):
        self._entities = _package(lambda: importlib.import_module("mlflow.entities"), "mlflow")
        database = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        uri = os.environ.get("MLFLOW_TRACKING_URI") or database
        self._client = _package(lambda: importlib.import_module("mlflow"), "mlflow").MlflowClient(
            tracking_uri=uri
        )
        found = self._client.get_experiment_by_name(PROJECT)
        self._experiment = found.experiment_id if found else self._client.create_experiment(PROJECT)
        self._runs: dict[FollowedRun, str] = {}

    def log(self, run: FollowedRun, step: int, figures: dict[str, float]) -> None:
        if run not in self._runs:
            # MLflow chooses a run's own id.
            found = self._client.search_runs([self._experiment], f"tags.followed_run = '{run.id}'")
            made = found[0] if found else self._made(run)
            self._runs[run] = made.info.run_id
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(*each, now, step) for each in figures.items()]
        self._client.log_batch(self._runs[run], metrics=metrics)

    def _made(self, run: FollowedRun) -> Any:
        tags = {"followed_run": run.id}
        return self._client.create_run(self._experiment, tags=tags, run_name=run.name)

    def flush(self) -> None:
        pass  # log_batch returns when they are kept

    def close(self) -> None:
        for run in self._runs.values():
            self._client.set_terminated(run)


class Trackio:
    """Runs in trackio's database, in FOLDER/trackio or in a Space."""

    def __init__(self, folder: Path):
        os.environ.setdefault("TRACKIO_DIR", str(folder / "trackio"))  # trackio reads it at import
        self._trackio = _package(lambda: importlib.import_module("trackio"), "trackio")
        self._run = ""  # trackio allows one run at a time

    def log(self, run: FollowedRun, step: int, figures: dict[str, float]) -> None:
        if run.name != self._run:
            self.close()
            options = {"resume": "allow", "auto_log_gpu": False, "auto_log_cpu": False}
            with redirect_stdout(io.StringIO()):  # it prints a greeting for each run
                self._trackio.init(PROJECT, name=run.name, **options)
            self._run = run.name
        self._trackio.log(figures, step=step)

    def flush(self) -> None:
        self.close()

    def close(self) -> None:
        if self._run:
            with redirect_stdout(io.StringIO()):
                self._trackio.finish()
        self._run = ""


TRACKERS: dict[str, Callable[[Path], Tracker]] = {
    "mlflow": MLflow,
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": WeightsAndBiases,
}


class Forwarder:
    """A forwarder of new rows below `root` to a tracker; the file `state` has the last steps."""

    def __init__(self, root: Path, state: Path, tracker: Tracker):
        self._root, self._state, self._tracker = root, state, tracker
        self._followers: dict[Path, Follower] = {}
        self._folders: dict[Path, int] = {}  # the scratch folder of each file, by its inode
        self._runs = _read_state(state)

    def poll(self) -> int:
        """Forward new rows; return how many."""
        for path in live_files(self._root):
            self._followers.setdefault(path, Follower(path))
        count = 0
        for path, follower in list(self._followers.items()):
            with suppress(FileNotFoundError):
                self._folders[path] = path.parent.stat().st_ino
            rows = filter(_is_whole, follower.poll())
            count += sum(self._forward(row, path) for row in rows)
            if follower.ended:
                del self._followers[path]
                self._folders.pop(path, None)
        if self._forget_folders() or count:
            self._keep()
        return count

    def _forward(self, row: dict[str, Any], path: Path) -> bool:
        """Forward a row; return False if its step was forwarded before, as after a resume."""
        stage, _, name = row["run"].partition(" ")
        work, folder = _work(path), self._folders.get(path)
        series = f"{stage} {row['kind']}"
        run = self._runs.get(name) or self._begin(name, 1)
        is_known = row["step"] <= run["steps"].get(series, -1)
        # A run that resumes after a kill keeps its scratch folder; a rerun has a new one.
        is_again = is_known and run["folders"].get(stage) != folder
        if run["works"].get(stage, work) != work or is_again:
            run = self._begin(name, run["number"] + 1)
        elif is_known:
            return False
        run["works"][stage] = work
        run["folders"].setdefault(stage, folder)
        run["steps"][series] = row["step"]
        figures = {
            f"{stage}/{key}": float(value)
            for key, value in row.items()
            if key not in _NO_FIGURES and isinstance(value, int | float)
        }
        called = name if run["number"] == 1 else f"{name}_{run['number']}"
        self._tracker.log(FollowedRun(called, run["id"]), row["step"], figures)
        return True

    def _begin(self, name: str, number: int) -> dict[str, Any]:
        """Return a new run of this name, without rows."""
        run: dict[str, Any] = {"number": number, "works": {}, "steps": {}, "folders": {}}
        run["id"] = f"{name.replace('/', '-')}-{secrets.token_hex(4)}"
        self._runs[name] = run
        # Save the id before the tracker gets it: after a kill, a second id would make a second run.
        self._keep()
        return run

    def _forget_folders(self) -> bool:
        """Forget scratch folders that have gone, because new folders may get their inodes.

        Returns whether there were any.
        """
        present = {*self._folders.values(), None}
        gone = [
            (run["folders"], stage)
            for run in self._runs.values()
            for stage, folder in run["folders"].items()
            if folder not in present
        ]
        for folders, stage in gone:
            folders[stage] = None
        return bool(gone)

    def _keep(self) -> None:
        """Record the last steps, after the tracker has stored all that it was given.

        In this order a kill in between forwards some rows twice, but loses none.
        """
        self._tracker.flush()
        partial = self._state.with_suffix(".partial")
        partial.write_text(json.dumps(self._runs, indent=2, sort_keys=True) + "\n")
        partial.replace(self._state)


def _is_whole(row: dict[str, Any]) -> bool:
    """Return whether a row has its run, kind and step."""
    forms = {"run": str, "kind": str, "step": int}
    return all(isinstance(row.get(key), form) for key, form in forms.items())


def _read_state(path: Path) -> dict[str, Any]:
    """Return the runs of FOLDER/TRACKER.json, none if it is missing; exit if it is damaged."""
    try:
        runs = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        runs = None
    if not isinstance(runs, dict) or not all(map(_is_state, runs.values())):
        _stop(
            f"{path} is damaged, so it is not known what has been forwarded; move it and this "
            "tracker's other files beside it elsewhere to begin anew"
        )
    return runs


def _is_state(run: Any) -> bool:
    return (
        isinstance(run, dict)
        and _STATE.items() <= {key: type(value) for key, value in run.items()}.items()
    )


def _work(path: Path) -> str:
    """Return the fingerprint of what a run depends on; empty if unknown.

    It is part of the path: checkpoints/a/.seed_1.scratch/FINGERPRINT/live.jsonl
    """
    folder = path.parent
    return "" if folder.name.endswith(".scratch") else folder.name


def _package(load: Callable[[], ModuleType], package: str) -> ModuleType:
    """Import a tracker's module, or exit with a line that tells what to install."""
    try:
        return load()
    except ImportError as error:
        _stop(
            f"{sys.executable} cannot import {package} ({error}); install it into an environment "
            "of its own, python -m venv .trackers && .trackers/bin/pip install pyyaml "
            f"{package}, and run this with .trackers/bin/python"
        )


def _stop(message: str) -> NoReturn:
    sys.exit(f"error: {' '.join(message.split())}")


def main() -> None:
    go_on_unread()
    options = _parser().parse_args()
    if not (options.repository / "dvc.yaml").is_file():
        _stop(f"--repository: {options.repository} has no dvc.yaml; name a clone's root")
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _stop(f"--folder: {options.folder} cannot be made a directory ({error.strerror})")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tracker = TRACKERS[options.tracker](options.folder)
    count = 0
    try:
        forwarder = Forwarder(
            options.repository, options.folder / f"{options.tracker}.json", tracker
        )
        count = forwarder.poll()
        if not options.once:
            print(f"forwarding to {options.tracker}; Ctrl-C ends it", flush=True)
        while not options.once:
            time.sleep(_PAUSE)
            count += forwarder.poll()
    except KeyboardInterrupt:
        pass
    finally:
        tracker.close()
    print(f"{count} rows forwarded to {options.tracker}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.live.track",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("tracker", choices=sorted(TRACKERS))
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("trackers"),
        help="folder for the tracker's files (default: trackers)",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        default=ROOT,
        help="clone whose runs to follow (default: this one)",
    )
    parser.add_argument("--once", action="store_true", help="forward what is there, and end")
    return parser


if __name__ == "__main__":
    main()
