"""Measure what the seal costs: each stage with and without it, in alternation, on this checkout.

    make bench            ROUNDS=9 for more than five rounds

Run `make repro` first; stages write the same bytes again. The seal costs time when a process starts
and imports. Computing in pretrain and evaluate would only add noise, so export stands for them: it
imports as much. ALL=1 runs them too. The last line compares the sum over all stages with the
seconds of their last run.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

from pipeline.declared.dvc_yaml import Instance, read_instances
from pipeline.declared.file_trees import WorkingTree
from pipeline.impact import read_durations

THROUGH_EXPORT = ("pretrain", "evaluate")


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def commands(instance: Instance) -> tuple[list[str], list[str]]:
    _, _, module, *arguments = shlex.split(instance.command)
    # Run the stage as `python -m` does, also with garbage collection off for the imports, but
    # without the seal.
    unsealed = (
        f"import gc, runpy; gc.disable(); runpy.run_module({module!r}, run_name='__main__',"
        " alter_sys=True)"
    )
    return [sys.executable, "-m", module, *arguments], [sys.executable, "-c", unsealed, *arguments]


def main() -> None:
    layout = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=layout).parse_args()
    rounds = int(os.environ.get("ROUNDS", "5"))
    durations = read_durations(REPOSITORY)
    instances = read_instances(WorkingTree(REPOSITORY))
    missing = sorted(set(instances) - set(durations))
    if missing:
        sys.exit(f"error: no run of {', '.join(missing)} is recorded here; make repro first")
    first = {instance.stage: instance for instance in reversed(instances.values())}
    if not os.environ.get("ALL"):
        for stage in THROUGH_EXPORT:
            del first[stage]
    added: dict[str, float] = {}
    for stage, instance in reversed(first.items()):
        sealed, unsealed = commands(instance)
        pairs = [(seconds(sealed), seconds(unsealed)) for _ in range(rounds)]
        with_seal, without = (statistics.median(column) for column in zip(*pairs, strict=True))
        spread = [left - right for left, right in pairs]
        added[stage] = statistics.median(spread)
        print(
            f"{stage}: {with_seal:.2f} s sealed, {without:.2f} s not; median difference"
            f" {added[stage]:+.2f} s ({min(spread):+.2f} to {max(spread):+.2f}), {rounds} rounds",
            flush=True,
        )
    for stage in THROUGH_EXPORT:
        added.setdefault(stage, added["export"])
    total = sum(added[instance.stage] for instance in instances.values())
    run = sum(durations[name] for name in instances)
    print(
        f"seal: {total:.1f} s over {len(instances)} stages that took {run:.0f} s: {total / run:.2%}"
    )


if __name__ == "__main__":
    main()
