"""The part `training`: steps at 124M, ours, a plain loop and transformers' Trainer in alternation.

All compile, compute in bfloat16 by autocast and use fused AdamW, with the profile's batch of
524,288 tokens. Ours is measured twice: as the pretrain stage computes, with deterministic kernels,
and without, to see what determinism costs. A process each; between its turns a process gives back
the memory it has cached. An arm's micro batch is the largest power of two of rows, at most 64, that
takes at most 85 % of the card when the arm is alone. The first turn, in which kernels are compiled,
does not count. At the end ours is profiled.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks import train
from benchmarks.gpu import card
from model.pretraining.throughput import flops_per_token

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = "benchmarks.gpu.training"
MOST_ROWS = 64
# llm.c's GPT-2 124M on one H100: karpathy/llm.c, discussion 481 (2024).
PUBLISHED = {"tokens_per_second": 468_000, "mfu": 0.41}  # MFU as published; 40 % by our formula
# bfloat16 rounds to 3 digits; arms sum in other orders.
TOLERANCE = 2e-2
PROFILED = 2  # steps
UNTIMED = 1  # steps at the beginning of a turn
# Kernels by what they do: the first pattern that a name matches.
# Attention stands before the products: its kernels have cutlass in their names, too.
KINDS = {
    "compiled element by element": r"^triton_",
    "attention": r"flash|fmha|attention|sdpa",
    "matrix products": r"gemm|cutlass|xmma|nvjet|cublas|wgmma|addmm|\bmm\b|bmm",
    "embedding's gradient": r"indexing_backward|index_put|embedding|radix|sort",
    "optimizer": r"adam|multi_tensor",
    "copies": r"mem(cpy|set)|copy",
    "sums and others": r"",
}


def measure(rehearse: bool, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return tokens/s, MFU and memory of each arm, the ratios to ours, and ours by kernel.

    `keep` gets what is known after each round, so that a failure loses no figure.
    """
    rounds, steps = (1, 2) if rehearse else (5, 3)
    # Alone, so that no arm's rows depend on what the others hold.
    rows = {arm: _fitting_rows(arm, rehearse, rounds, steps) for arm in ARMS}
    workers = {
        arm: train.Worker(arm, _arguments(rehearse, rounds, steps, rows[arm]), MODULE)
        for arm in ARMS
    }
    turns: list[dict[str, dict[str, float]]] = []
    found: dict[str, Any] = {}
    for number in range(rounds + 1):
        turns.append({arm: worker.ask(steps) for arm, worker in workers.items()})
        if number:
            found = _figures(rehearse, turns, steps, rows)
            keep(found)
    for worker in workers.values():
        worker.close()
    if not found["loss_spread"] <= TOLERANCE:
        sys.exit(f"error: training: losses after the same steps differ: {turns[-1]}")
    return {**found, "by_kernel": _profiled(rehearse, rows["ours, compiled"])}


def _figures(
    rehearse: bool, turns: list[dict[str, dict[str, float]]], steps: int, rows: dict[str, int]
) -> dict[str, Any]:
    task = _task(rehearse, 1, MOST_ROWS)
    peak = None if rehearse else card.peak_flops(torch.cuda.get_device_name())
    found: dict[str, Any] = {"tokens_per_step": task.tokens_per_step, "rounds": len(turns) - 1}
    if peak:
        found["peak_tflops"] = peak / 1e12
    if not rehearse and "H100" in torch.cuda.get_device_name():
        found["published"] = PUBLISHED
    seconds = {arm: [turn[arm]["seconds"] / steps for turn in turns[1:]] for arm in ARMS}
    for arm in ARMS:
        rate = task.tokens_per_step / statistics.median(seconds[arm])
        found[arm] = {
            "tokens_per_second": round(rate),
            "micro_batch_rows": rows[arm],
            "memory_mib": round(turns[-1][arm]["memory"]),
            "loss": turns[-1][arm]["loss"],
        }
        if peak:
            found[arm]["mfu"] = round(rate * flops_per_token(task.config) / peak, 4)
        pairs = zip(seconds["ours, compiled"], seconds[arm], strict=True)
        ratios = [their / our for our, their in pairs]
        found[arm]["ours_is_faster_by"] = [
            round(value, 3) for value in (statistics.median(ratios), min(ratios), max(ratios))
        ]
    spread = [
        max(turn[arm]["loss"] for arm in ARMS) - min(turn[arm]["loss"] for arm in ARMS)
        for turn in turns
    ]
    return {**found, "loss_spread": max(spread)}


def _arguments(rehearse: bool, rounds: int, steps: int, rows: int) -> list[str]:
    numbers = ["--rounds", str(rounds), "--steps", str(steps), "--micro-batch-rows", str(rows)]
    return [*numbers, *(["--rehearse"] if rehearse else [])]


def _fitting_rows(arm: str, rehearse: bool, rounds: int, steps: int) -> int:
    """Return the most rows of a micro batch with which the arm takes a step; halved until it does.

    The kernels that it compiles are kept for the process that is measured.
    """
    rows = 2 if rehearse else MOST_ROWS
    while True:
        try:
            worker = train.Worker(arm, _arguments(rehearse, rounds, steps, rows), MODULE)
            answer = worker.ask(1)
            worker.close()
        except train.WorkerDied as died:
            if "out of memory" not in str(died) or rows == 1:
                sys.exit(str(died))
            rows //= 2
            continue
        # The others hold weights, moments and a context meanwhile, less than a tenth of a card.
        room = 1e9 if rehearse else torch.cuda.get_device_properties(0).total_memory / 2**20
        if answer["memory"] <= 0.85 * room or rows == 1:
            return rows
        rows //= 2


def full_size_task(steps: int, micro_batch_rows: int) -> train.Task:
    """Return the network and batch of the full-size profile, with the rows of `steps` steps."""
    profile = "profiles/gpt2-124m-10b.yaml"
    train.CONFIGURATIONS["full size"] = train.Configuration(profile, {}, rounds=0, steps=0)
    return _with_rows(train.make_task("full size", steps, os.cpu_count() or 1), micro_batch_rows)


def _task(rehearse: bool, steps: int, micro_batch_rows: int) -> train.Task:
    if rehearse:
        return _with_rows(train.make_task("micro", steps, 1), micro_batch_rows)
    return full_size_task(steps, micro_batch_rows)


def _with_rows(task: train.Task, micro_batch_rows: int) -> train.Task:
    rows = min(micro_batch_rows, task.params.batch_rows)
    return task._replace(params=task.params.model_copy(update={"micro_batch_rows": rows}))


def _arms(rehearse: bool) -> dict[str, Callable[[train.Task, train.AfterStep], None]]:
    how: dict[str, Any] = {"dtype": "bfloat16", "device": "cpu" if rehearse else "cuda"}
    # Compiling for a CPU needs a C++ compiler and minutes, and shows nothing of a GPU.
    how["compiled"] = not rehearse
    ours = partial(train.train_ours, kernels="native", **how)
    return {
        "ours, compiled": ours,
        "ours, sums in any order": partial(ours, deterministic=False),
        "plain loop": partial(train.train_plain, **how),
        "Trainer": partial(train.train_with_trainer, activation="gelu_new", **how),
    }


ARMS = tuple(_arms(rehearse=True))


def _profiled(rehearse: bool, rows: int) -> dict[str, float]:
    """Return the share of a step of ours that each kind of kernel takes, and the idle rest.

    Empty if the profiler fails: the other figures are worth keeping.
    """
    command = [sys.executable, "-m", MODULE, *_arguments(rehearse, 1, 4, rows), "--profile"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=train.environment_of("ours, compiled"),
        stdout=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        print(f"warning: training: the profile exited with {done.returncode}", file=sys.stderr)
        return {}
    shares: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return shares


class _Profile:
    """An `after_step` that profiles the last PROFILED steps."""

    def __init__(self, device: str):
        self._device, self._steps = device, 0
        activity = ProfilerActivity.CUDA if device == "cuda" else ProfilerActivity.CPU
        self._profile = profile(activities=[activity])
        self.shares: dict[str, float] = {}

    def __call__(self, loss: Tensor | None) -> bool:
        if loss is not None:
            loss.item()  # waits for the device
        if self._steps == 2:  # kernels are compiled and memory is there
            self._profile.__enter__()
            self._began = time.perf_counter()
        if self._steps == 2 + PROFILED:
            seconds = time.perf_counter() - self._began
            self._profile.__exit__(None, None, None)
            self.shares = self._of(seconds)
            return False
        self._steps += 1
        return True

    def _of(self, seconds: float) -> dict[str, float]:
        spent = dict.fromkeys(KINDS, 0.0)
        for event in self._profile.key_averages():
            if event.is_user_annotation:
                continue
            microseconds = (
                event.self_device_time_total
                if self._device == "cuda"
                else event.self_cpu_time_total
            )
            kind = next(
                kind
                for kind, pattern in KINDS.items()
                if re.search(pattern, event.key, re.IGNORECASE)
            )
            spent[kind] += microseconds / 1e6
        if not sum(spent.values()):
            sys.exit("error: training: the profiler saw no kernel")
        shares = {kind: round(value / seconds, 4) for kind, value in spent.items()}
        return {**shares, "idle": round(1 - sum(spent.values()) / seconds, 4)}


def main() -> None:
    """Run one arm's process, or profile ours."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--micro-batch-rows", type=int, required=True)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--worker", choices=ARMS)
    options = parser.parse_args()
    device = "cpu" if options.rehearse else "cuda"
    if device == "cuda":
        torch.set_float32_matmul_precision("high")  # of all arms: nanoGPT allows TF32
    # Each turn begins with a step that is not timed: it takes back the memory given up before.
    steps = (options.rounds + 1) * (options.steps + UNTIMED) + 1
    task = _task(options.rehearse, steps, options.micro_batch_rows)
    arms = _arms(options.rehearse)
    if options.profile:
        profiling = _Profile(device)
        arms["ours, compiled"](task, profiling)
        print(json.dumps(profiling.shares))
        return
    arms[options.worker](task, train.Turns(UNTIMED, device))


if __name__ == "__main__":
    main()
