"""`make dry-run`: the full-size profile from fetch to report, on a slice of it, through the code paths of the full run.

    python -m tools.dry_run DIRECTORY [PROFILE]

Copies the tree to DIRECTORY/clone with the profile as its params.yaml, but for the values in SLICE, and runs `dvc repro` there.
The hub is a server on this machine that speaks its protocol. Pretraining is killed once it has kept a state, and gone on with.
"""

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
import yaml

from graph.impact import read_durations
from graph.instances import load_yaml, read_instances, value_at
from graph.lock import Graph
from graph.tree import WorkingTree
from model.params.fetch import FetchParams
from model.params.whole import Params
from tools.hub_server import HubServer
from tools.hub_slice import make_hub

REPOSITORY = Path(__file__).parent.parent
PROFILE = Path("profiles/gpt2-124m-10b.yaml")
WHEELS = Path("params.yaml")  # a profile whose inputs are in installed wheels
PASSAGES = slice(0, 2)  # of its files: BoolQ and SciQ

# What the slice has in place of the profile's own values. Everything else is the profile's.
SLICE = {
    "corpus.drill_fraction": 0.3,  # or four steps read no fact, and both conditions have the same weights
    "items.hellaswag_count": 12,
    "items.continuation_count": 4,
    "tokenize.base_ranks": 1024,
    "model.layers": 2,
    "model.width": 48,
    "model.context": 128,
    "pretrain.max_steps": 8,
    "pretrain.checkpoint_steps": [4, 8],
    "pretrain.batch_rows": 8,
    "pretrain.micro_batch_rows": 2,
    "pretrain.processes": 2,
    "pretrain.warmup_steps": 2,
    "pretrain.log_every": 2,
    "pretrain.validate_every": 4,
    "pretrain.validation_documents": 8,
    "pretrain.state_every": 2,
    "pretrain.device": "cpu",
    "pretrain.threads": 1,
    "export.threads": 1,
    "evaluate.batch_tokens": 4096,
    "evaluate.device": "cpu",
    "evaluate.processes": 2,
    "evaluate.threads": 1,
    "problems.conversations": 64,
    "problems.generated_test": 4,
    "problems.gsm8k_test": 4,
    "sft.max_steps": 4,
    "sft.batch_rows": 16,
    "sft.warmup_steps": 1,
    "sft.log_every": 2,
    "sft.state_every": 2,
    "sft.device": "cpu",
    "sft.threads": 1,
    "generate.device": "cpu",
    "generate.new_tokens": 8,
    "generate.threads": 1,
    "probes.device": "cpu",
    "probes.new_tokens": 4,
    "probes.threads": 1,
}
NOT_EXERCISED = (
    "CUDA, its bfloat16 and its memory",
    "NCCL, eight processes, several nodes",
    "the hub itself, its rate limits and 28.5 GB of parquet",
    "corpora larger than memory, and hours: a kill comes after seconds",
    "learning: eight steps learn nothing, so no figure of the slice means anything",
)


def sliced(profile: dict[str, Any], counts: dict[str, int]) -> tuple[dict[str, Any], dict[str, tuple[Any, Any]]]:
    """Return the profile with the slice's values in it, and what was replaced: the old and the new value by key."""
    replaced = {}
    for key, value in {**SLICE, **{f"fetch.{name}.count": count for name, count in counts.items()}, **_lacking()}.items():
        section, _, name = key.rpartition(".")
        old, value_at(profile, section)[name] = value_at(profile, key), value
        if old != value:
            replaced[key] = (old, value)
    Params.model_validate(profile)
    return profile, replaced


def _lacking() -> dict[str, Any]:
    """Return the values that this machine cannot do: bfloat16 without arithmetic for it, torch.compile without a compiler."""
    lacks = {} if torch.cpu.get_capabilities().get("avx512_bf16") else {"pretrain.dtype": "float32", "sft.dtype": "float32"}
    return lacks | ({} if shutil.which("g++") else {"pretrain.compile": False})


def _dies_of_amx() -> bool:
    """Return whether a product in bfloat16 kills a process here: virtual machines can have AMX on paper and not execute it."""
    product = "import torch; torch.ones(64, 64).bfloat16() @ torch.ones(64, 64).bfloat16()"
    return subprocess.run([sys.executable, "-c", product], stderr=subprocess.DEVNULL).returncode == -signal.SIGILL


def make_clone(clone: Path, params: dict[str, Any]) -> None:
    """Copy the tree's files, as they are now, into a repository of their own with `params` as its params.yaml."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPOSITORY, check=True, capture_output=True
    )
    results = ("metrics/", "plots/", "dvc.lock", "dvc.contents.json", "tests/", "docs/")
    for name in names.stdout.decode().split("\0")[:-1]:
        if (REPOSITORY / name).is_file() and not name.startswith(results):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, clone / name)
    (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    if _dies_of_amx():
        confinement = clone / "graph/confinement.py"
        confinement.write_text(confinement.read_text().replace('"ONEDNN_", ', ""))
    (clone / ".venv").symlink_to(sys.prefix)
    subprocess.run(["git", "init", "-q"], cwd=clone, check=True)


class Run:
    """Commands in the clone, with a hub's address in their environment; all that they say is in one log."""

    def __init__(self, clone: Path, endpoint: str):
        self.clone = clone
        self._log = clone.parent / "log"
        # A stage may not open what is made beside its repository while it runs.
        for name in ("home", "tmp"):
            (clone.parent / name).mkdir()
        self._environment = {
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(clone.parent / "home"),
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16",  # heard only where make_clone lets it through
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": str(clone.parent / "tmp"),  # with the kernels that torch.compile keeps
        }

    def start(self, *command: str) -> subprocess.Popen:
        with open(self._log, "ab") as log:
            return subprocess.Popen(
                command, cwd=self.clone, env=self._environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
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
            sys.exit(f"{said}\nerror: dry run: {' '.join(command)} failed; all that was said is in {self._log}")
        return said


def kill_in_the_middle(run: Run) -> str:
    """Start `dvc repro`, and kill it with all its processes when pretraining has kept a state; return which stage it was."""
    print("dry run: dvc repro, to be killed in the middle of pretraining", flush=True)
    process = run.start("dvc", "repro")
    while process.poll() is None:
        for sums in run.clone.glob("checkpoints/*/.*.scratch/*/states/step_*/SHA256SUMS"):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return str(sums.parent.relative_to(run.clone))
        time.sleep(0.01)
    sys.exit(f"error: dry run: dvc repro ended before pretraining had kept a state; see {run.clone.parent / 'log'}")


def table(run: Run, replaced: dict[str, tuple[Any, Any]], evidence: dict[str, str]) -> str:
    durations = read_durations(run.clone)
    lines = ["| stage | runs | seconds | shown by this run |", "|---|---:|---:|---|"]
    by_stage: dict[str, list[str]] = {}
    for name, instance in read_instances(WorkingTree(run.clone)).items():
        by_stage.setdefault(instance.stage, []).append(name)
    for stage, names in by_stage.items():
        lines.append(f"| {stage} | {len(names)} | {sum(durations[n] for n in names):.1f} | {evidence.get(stage, '')} |")
    lines += ["", "| key | profile | slice |", "|---|---|---|"]
    lines += [f"| {key} | {old} | {new} |" for key, (old, new) in sorted(replaced.items())]
    return "\n".join([*lines, "", "Not exercised:", *(f"- {each}" for each in NOT_EXERCISED)])


def evidence_of(run: Run, params: dict[str, Any], server: HubServer, state: str, resumed: str) -> dict[str, str]:
    """Return what was seen of each stage; exits where something that the slice is for was not."""
    goes_on = [line for line in resumed.splitlines() if "goes on from step" in line]
    sums = sorted(run.clone.glob("checkpoints/*/*/step_*/SHA256SUMS"))
    parity = [json.loads(path.read_text()) for path in run.clone.glob("metrics/*/*/*/parity.json")]
    shapes = {(params[name]["processes"], params[name]["device"]) for name in ("pretrain", "evaluate")}
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
        "pretrain": f"2 processes (gloo), {pretrain['dtype']}, torch.compile {'on' if pretrain['compile'] else 'off'}; "
        f"killed with {Path(state).name}, {goes_on[0].split(': ', 1)[1]}",
        "export": f"vocabulary of {params['tokenize']['base_ranks']} ranks; logits differ by at most {worst:.1e}",
        "evaluate": "2 processes, both wordings and continuations",
        "sft": f"{params['sft']['dtype']}, the hub's conversations",
        "report": "one page; afterwards `dvc repro` runs nothing, and `python -m graph.check` finds nothing",
    }


def dry_run(directory: Path, profile: Path) -> None:
    wheels = FetchParams(**load_yaml((REPOSITORY / WHEELS).read_bytes())["fetch"])
    wheels.passages.source.files[:] = wheels.passages.source.files[PASSAGES]
    params = load_yaml((REPOSITORY / profile).read_bytes())
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
    if "Running stage" in again or Graph(WorkingTree(run.clone)).lock.keys() != read_instances(WorkingTree(run.clone)).keys():
        sys.exit(f"{again}\nerror: dry run: a second dvc repro still had something to do")
    for command in ("record stages", "record lock", "record contents", "check"):
        module, *arguments = command.split()
        run.do("python", "-m", f"graph.{module}", *arguments)
    print(f"\n{profile} on {platform.machine()}, {time.monotonic() - started:.0f} s\n")
    print(table(run, replaced, evidence_of(run, params, server, state, resumed)))


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python -m tools.dry_run DIRECTORY [PROFILE]")
    directory = Path(sys.argv[1]).resolve()
    if directory.exists() and any(directory.iterdir()):
        sys.exit(f"error: dry run: {directory} is not empty; name a new directory")
    directory.mkdir(parents=True, exist_ok=True)
    dry_run(directory, Path(sys.argv[2]) if len(sys.argv) == 3 else PROFILE)


if __name__ == "__main__":
    main()
