"""The part `training`: steps at 124M, ours, a plain loop and transformers' Trainer in alternation.

All compile, compute in bfloat16 by autocast and use fused AdamW, with the profile's batch of
524,288 tokens. Ours is measured twice: as the pretrain stage computes, with deterministic kernels,
and without, to see what determinism costs. A process each; between its turns a process gives back
the memory it has cached. An arm's micro batch is the largest power of two of rows that fits, at
most 64. The first turn, in which kernels are compiled, does not count. At the end ours is profiled.
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
PUBLISHED = {"tokens_per_second": 468_000, "mfu": 0.41}
# bfloat16 rounds to 3 digits; arms sum in other orders.
TOLERANCE = 2e-2
PROFILED = 2  # steps
# Kernels by what they do: the first pattern that a name matches.
KINDS = {
    "matrix products": r"gemm|cutlass|xmma|nvjet|cublas|wgmma|addmm|\bmm\b|bmm",
    "attention": r"flash|fmha|attention",
    "compiled element by element": r"triton",
    "optimizer": r"adam|multi_tensor",
    "copies": r"mem(cpy|set)|copy",
    "sums and others": r"",
}


def measure(rehearse: bool) -> dict[str, Any]:
    """Return tokens/s, MFU and memory of each arm, the ratios to ours, and ours by kernel."""
    rounds, steps = (1, 2) if rehearse else (5, 3)
    arms = {arm: _started(arm, rehearse, rounds, steps) for arm in ARMS}
    turns: list[dict[str, dict[str, float]]] = []
    for _ in range(rounds + 1):
        turns.append({arm: worker.ask(steps) for arm, (worker, _) in arms.items()})
        losses = [answer["loss"] for answer in turns[-1].values()]
        if not max(losses) - min(losses) <= TOLERANCE:
            sys.exit(f"error: training: losses after the same steps differ: {turns[-1]}")
    for worker, _ in arms.values():
        worker.close()
    task = _task(rehearse, 1, MOST_ROWS)
    peak = None if rehearse else card.peak_flops(torch.cuda.get_device_name())
    found: dict[str, Any] = {"tokens_per_step": task.tokens_per_step, "published": PUBLISHED}
    if peak:
        found["peak_tflops"] = peak / 1e12
    seconds = {arm: [turn[arm]["seconds"] / steps for turn in turns[1:]] for arm in arms}
    for arm, (_, rows) in arms.items():
        rate = task.tokens_per_step / statistics.median(seconds[arm])
        found[arm] = {
            "tokens_per_second": round(rate),
            "micro_batch_rows": rows,
            "memory_mib": round(turns[-1][arm]["memory"]),
            "loss": turns[-1][arm]["loss"],
        }
        if peak:
            found[arm]["mfu"] = round(rate * flops_per_token(task.config) / peak, 4)
        ratios = [their / our for our, their in zip(seconds["ours"], seconds[arm], strict=True)]
        found[arm]["ours_is_faster_by"] = [
            round(value, 3) for value in (statistics.median(ratios), min(ratios), max(ratios))
        ]
    return {**found, "by_kernel": _profiled(rehearse, arms["ours"][1])}


def _arguments(rehearse: bool, rounds: int, steps: int, rows: int) -> list[str]:
    numbers = ["--rounds", str(rounds), "--steps", str(steps), "--micro-batch-rows", str(rows)]
    return [*numbers, *(["--rehearse"] if rehearse else [])]


def _started(arm: str, rehearse: bool, rounds: int, steps: int) -> tuple[train.Worker, int]:
    """Start an arm's process and let it take a step, with half the rows after each out of memory.

    Return the process and its rows of a micro batch.
    """
    rows = 2 if rehearse else MOST_ROWS
    while True:
        worker = train.Worker(arm, _arguments(rehearse, rounds, steps, rows), MODULE)
        try:
            worker.ask(1)
            return worker, rows
        except train.WorkerDied as died:
            worker.close()
            if "out of memory" not in str(died) or rows == 1:
                sys.exit(str(died))
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
        "ours": ours,
        "ours, sums in any order": partial(ours, deterministic=False),
        "plain loop": partial(train.train_plain, **how),
        "Trainer": partial(train.train_with_trainer, activation="gelu_new", **how),
    }


ARMS = tuple(_arms(rehearse=True))


def _profiled(rehearse: bool, rows: int) -> dict[str, float]:
    """Return the share of a step of ours that each kind of kernel takes, and the idle rest."""
    command = [sys.executable, "-m", MODULE, *_arguments(rehearse, 1, 4, rows), "--profile"]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=train.environment_of(train.NATIVE),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
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
    # One step to try the memory, and the first turn, are not counted.
    steps = 1 + (options.rounds + 1) * options.steps + 1
    task = _task(options.rehearse, steps, options.micro_batch_rows)
    arms = _arms(options.rehearse)
    if options.profile:
        profiling = _Profile(device)
        arms["ours"](task, profiling)
        print(json.dumps(profiling.shares))
        return
    arms[options.worker](task, train.Turns(0, device))


if __name__ == "__main__":
    main()
