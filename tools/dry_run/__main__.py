"""Run a slice of the full-size profile, from fetch to report (`make dry-run`).

    python -m tools.dry_run ../slice

The slice goes through the code paths of the full run. DIRECTORY/clone becomes a copy of the tree
with the profile as its params.yaml, except for the values of tools/dry_run/profile_slice.py.
`dvc repro` runs there. A server on this machine speaks the hub's protocol. Pretraining is killed
once it has kept a state, and then resumed.

Reads the tree and the profile (by default the full-size one). Writes DIRECTORY.
"""

import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from glob import glob
from pathlib import Path
from typing import Any

from dvc.utils.serialize import dumps_yaml

from common.yaml_file import read_yaml
from model.params.fetch import FetchParams
from pipeline.declared.dvc_yaml import read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph
from pipeline.impact import read_durations
from pipeline.terminal.command_lines import command_line
from tools.dry_run.fake_hub import HubServer
from tools.dry_run.hub_slice import make_hub
from tools.dry_run.profile_slice import NOT_EXERCISED, sliced
from tools.repository_copy import copy_repository

REPOSITORY = Path(__file__).parents[2]
PROFILE = Path("profiles/gpt2-124m-10b.yaml")
WHEELS = Path("profiles/micro.yaml")  # a profile whose inputs are in installed wheels


def make_clone(clone: Path, params: dict[str, Any]) -> None:
    """Copy the tree's files into a new repository with `params` as its params.yaml."""
    copy_repository(
        REPOSITORY,
        clone,
        ("metrics/", "plots/", "dvc.lock", "dvc.contents.json", "tests/", "docs/"),
    )
    (clone / "params.yaml").write_text(dumps_yaml(params))


class Run:
    """Commands in the clone, with a hub's address in their environment, and one log for all."""

    def __init__(self, clone: Path, endpoint: str):
        self.clone = clone
        self._log = clone.parent / "log"
        # Make these before a stage starts: it may not open folders that appear beside its
        # repository while it runs.
        for name in ("home", "tmp"):
            (clone.parent / name).mkdir()
        self._environment = {
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(clone.parent / "home"),
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": str(clone.parent / "tmp"),  # with the kernels that torch.compile keeps
        }

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with open(self._log, "ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.clone,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def do(self, *command: str) -> str:
        before = self._log.stat().st_size if self._log.exists() else 0
        print(f"dry run: {' '.join(command)}", flush=True)
        process = self.start(*command)
        try:
            status = process.wait()
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGTERM)
        with open(self._log, "rb") as log:
            log.seek(before)
            said = log.read().decode(errors="replace")
        if status:
            sys.exit(
                f"{said}\nerror: dry run: {' '.join(command)} failed; all that was said is in"
                f" {self._log}"
            )
        return said


def kill_in_the_middle(run: Run) -> str:
    """Start `dvc repro`; kill it with all its processes once pretraining has kept a state.

    Returns the path of that state.
    """
    print("dry run: dvc repro, to be killed in the middle of pretraining", flush=True)
    process = run.start("dvc", "repro")
    try:
        while process.poll() is None:
            # glob.glob, because Path.glob raises if the run removes a folder meanwhile.
            for sums in glob(
                "checkpoints/*/.*.scratch/*/states/step_*/SHA256SUMS", root_dir=run.clone
            ):
                return str(Path(sums).parent)
            time.sleep(0.01)
    finally:  # after Ctrl-C too, which does not reach dvc in its own session
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    sys.exit(
        "error: dry run: dvc repro ended before pretraining had kept a state; see"
        f" {run.clone.parent / 'log'}"
    )


def table(run: Run, replaced: dict[str, tuple[Any, Any]], evidence: dict[str, str]) -> str:
    durations = read_durations(run.clone)
    lines = ["| stage | runs | seconds | shown by this run |", "|---|---:|---:|---|"]
    by_stage: dict[str, list[str]] = {}
    for name, instance in read_instances(WorkingTree(run.clone)).items():
        by_stage.setdefault(instance.stage, []).append(name)
    for stage, names in by_stage.items():
        lines.append(
            f"| {stage} | {len(names)} | {sum(durations[n] for n in names):.1f} |"
            f" {evidence.get(stage, '')} |"
        )
    lines += ["", "| key | profile | slice |", "|---|---|---|"]
    lines += [f"| {key} | {old} | {new} |" for key, (old, new) in sorted(replaced.items())]
    return "\n".join([*lines, "", "Not exercised:", *(f"- {each}" for each in NOT_EXERCISED)])


def evidence_of(
    run: Run, params: dict[str, Any], server: HubServer, state: str, resumed: str
) -> dict[str, str]:
    """Return the evidence for each stage; exit if something that the slice must show is missing."""
    goes_on = [line for line in resumed.splitlines() if "resumes from step" in line]
    sums = sorted(run.clone.glob("checkpoints/*/*/step_*/SHA256SUMS"))
    parity = [json.loads(path.read_text()) for path in run.clone.glob("metrics/*/*/*/parity.json")]
    shapes = {
        (params[name]["processes"], params[name]["device"]) for name in ("pretrain", "evaluate")
    }
    steps = len(params["conditions"]) * len(params["pretrain"]["checkpoint_steps"])
    for seen, problem in (
        (len(goes_on) == 1, "pretraining did not go on from its state"),
        (len(sums) == len(parity) == steps, "checkpoints or exports are missing"),
        (shapes == {(2, "cpu")}, "not two processes"),
        ((run.clone / "plots/report.html").is_file(), "no report"),
    ):
        if not seen:
            sys.exit(f"error: dry run: {problem}; see {run.clone.parent / 'log'}")
    pretrain = params["pretrain"]
    worst = max(each["max_abs_logit_difference"] for each in parity)
    return {
        "fetch": f"{len(server.sent)} files by the hub's protocol, at the profile's commits",
        "pretrain": (
            f"2 processes (gloo), {pretrain['dtype']}, torch.compile"
            f" {'on' if pretrain['compile'] else 'off'}; killed with {Path(state).name},"
            f" {goes_on[0].split(': ', 1)[1]}"
        ),
        "export": (
            f"vocabulary of {params['tokenize']['base_ranks']} ranks; logits differ by at most"
            f" {worst:.1e}"
        ),
        "evaluate": "2 processes, every task",
        "sft": f"{params['sft']['dtype']}, the hub's conversations",
        "report": (
            "one page; afterwards `dvc repro` runs nothing, and `python -m pipeline.check` finds"
            " nothing"
        ),
    }


def dry_run(directory: Path, profile: Path) -> None:
    wheels = FetchParams(**read_yaml(REPOSITORY / WHEELS)["fetch"])
    params = read_yaml(REPOSITORY / profile)
    repositories, counts = make_hub(directory / "hub", FetchParams(**params["fetch"]), wheels)
    params, replaced = sliced(params, counts)
    make_clone(directory / "clone", params)
    server = HubServer(repositories)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    run = Run(directory / "clone", server.endpoint)
    started = time.monotonic()
    state = kill_in_the_middle(run)
    resumed = run.do("dvc", "repro")
    again = run.do("dvc", "repro")
    if (
        "Running stage" in again
        or Graph(WorkingTree(run.clone)).lock.keys()
        != read_instances(WorkingTree(run.clone)).keys()
    ):
        sys.exit(f"{again}\nerror: dry run: a second dvc repro still had something to do")
    run.do("python", "-m", "pipeline.check")
    print(f"\n{profile} on {platform.machine()}, {time.monotonic() - started:.0f} s\n")
    print(table(run, replaced, evidence_of(run, params, server, state, resumed)))


def main() -> None:
    parser = command_line("tools.dry_run", __doc__, changes=True)
    parser.add_argument("directory", type=Path, help="a new folder, or an empty one")
    parser.add_argument("profile", nargs="?", type=Path, default=PROFILE)
    options = parser.parse_args()
    directory = options.directory.resolve()
    if directory.exists() and any(directory.iterdir()):
        sys.exit(f"error: dry run: {directory} is not empty; name a new directory")
    directory.mkdir(parents=True, exist_ok=True)
    dry_run(directory, options.profile)


if __name__ == "__main__":
    main()
