"""Training: this repository's loop, a plain one after nanoGPT and transformers' Trainer, in
alternation in one run.

    python -m benchmarks.train
        both configurations; forty minutes on two cores, 16 GB of memory
    python -m benchmarks.train --config demo
        params.yaml's network and batch; about two minutes
    python -m benchmarks.train --config 124m
        GPT-2's size, steps of two micro batches of 4 × 1,024 tokens; half an hour

Ours is measured with portable kernels and with native ones. Each has a process of its own, the same
initial weights, rows, AdamW, clipping and number of threads; while one computes the others wait. A
turn of a few steps is timed from the request to the end of the last step, the fetching of rows
included and the set-up not; the first turn does not count. All must have the same loss at the end
of every turn, or it stops. The Trainer is measured with GPT-2's own `gelu_new`, which transformers
computes in several operations, and with the same function in one (`gelu_pytorch_tanh`). Memory is a
process's peak, libraries included. The share of the peak is of what a product of two matrices of
2048 × 2048 reaches here, counting each product of the network thrice, for backward, and half of
attention's square. At GPT-2's size a process gives back freed memory while it waits, or they would
not fit beside each other, and a turn begins with a step that is not timed, in which the pages come
back. bfloat16 is ours alone, with native kernels, after the others, where the processor has
instructions for it. The last line sums up.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent

import numpy as np
import torch
from torch import Tensor

from benchmarks import plain_loop
from benchmarks.scoring import matmul_peaks, peak_memory
from common.sections import read_section
from model.network.gpt import GPT, GPTConfig
from model.params.network import NetworkParams
from model.params.pretrain import PretrainParams
from pipeline.seal.environment import environment_of_libraries

TOLERANCE = 1e-3  # nats, between the losses of two arms after the same steps

# Called with None before the first step and with the mean loss after each; False ends the training.
AfterStep = Callable[[Tensor | None], bool]


class Configuration(NamedTuple):
    profile: str
    batch: dict[str, int]  # in place of the profile's
    rounds: int
    steps: int  # in a turn
    # steps before them, after which the memory that was given back while waiting is there again
    untimed: int = 0


CONFIGURATIONS = {
    "demo": Configuration("params.yaml", {}, rounds=7, steps=40),
    "124m": Configuration(
        "profiles/gpt2-124m-10b.yaml",
        {"batch_rows": 8, "micro_batch_rows": 4},
        rounds=2,
        steps=1,
        untimed=1,
    ),
    "micro": Configuration("profiles/micro.yaml", {}, rounds=2, steps=5),
}


class Task(NamedTuple):
    """What every arm trains: the network and its initial weights' seed, the batches, AdamW's
    settings.
    """

    config: GPTConfig
    params: PretrainParams
    rows: Tensor  # int64 (rows, context + 1)
    threads: int

    def initial(self) -> GPT:
        return GPT(self.config).initialize(torch.Generator().manual_seed(0))

    @property
    def accumulation(self) -> int:
        return self.params.batch_rows // self.params.micro_batch_rows

    @property
    def tokens_per_step(self) -> int:
        return self.params.batch_rows * self.config.context

    def products_per_step(self) -> int:
        """Return the floating-point operations of a step's matrix products, none of them computed
        twice.
        """
        config = self.config
        of_token = config.width * (12 * config.layers * config.width + config.vocab_size)
        of_attention = (
            config.layers * config.width * config.context
        )  # scores and mixing, of half the square
        return 3 * 2 * (of_token + of_attention) * self.tokens_per_step


def make_task(name: str, steps: int, threads: int) -> Task:
    """Return configuration `name` with the rows of `steps` steps, whose tokens are as unevenly
    frequent as words are.
    """
    profile, batch, *_ = CONFIGURATIONS[name]
    path = REPOSITORY / profile
    size = read_section("model", NetworkParams, path)
    # As model/tokens/bpe.py counts: end of text and 45 facts, up to a multiple of 64.
    vocabulary = -(-(read_section("tokenize.base_ranks", int, path) + 46) // 64) * 64
    params = read_section("pretrain", PretrainParams, path).model_copy(update=batch)
    frequencies = 1 / np.arange(1, vocabulary + 1)
    shape = (steps * params.batch_rows, size.context + 1)
    rows = np.random.default_rng(0).choice(vocabulary, shape, p=frequencies / frequencies.sum())
    return Task(
        GPTConfig(**size.model_dump(), vocab_size=vocabulary),
        params,
        torch.from_numpy(rows),
        threads,
    )


def train_ours(
    task: Task,
    after_step: AfterStep,
    kernels: str = "portable",
    dtype: str = "float32",
    device: str = "cpu",
    compiled: bool = False,
    deterministic: bool = True,
) -> None:
    """Train as the pretrain stage does; `deterministic` is off only to see what it costs."""
    from model.numerics.setting import set_numerics
    from model.numerics.side_by_side import SideBySide
    from model.params.numerics import NumericsParams
    from model.pretraining.gradients import MicroBatchGradients, RowGradients
    from model.pretraining.loop import LossNetwork, optimizer_step
    from model.pretraining.optimizer import make_optimizer
    from model.pretraining.training_rows import prefetched
    from model.runtime.distributed import Processes
    from model.runtime.torch_setup import keep_freed_memory

    threads = task.threads if kernels == "native" else None
    set_numerics(NumericsParams(kernels=kernels, threads=threads))
    torch.use_deterministic_algorithms(deterministic)
    keep_freed_memory()
    params = task.params.model_copy(update={"device": device, "dtype": dtype, "compile": compiled})
    model = task.initial().to(device)
    side_by_side = SideBySide(task.threads if kernels == "portable" else 1)
    network, optimizer = LossNetwork(model, params), make_optimizer(model, params, side_by_side)
    alone = Processes(rank=0, local_rank=0, count=1)
    if kernels == "portable":
        gradients = RowGradients(network, side_by_side, alone)
    else:
        rows = params.micro_batch_rows
        gradients = MicroBatchGradients(network, rows, alone, torch.device(device))
    batches = task.rows.split(params.batch_rows)

    def fetched(number: int) -> Tensor:
        return batches[number].pin_memory() if device == "cuda" else batches[number]

    after = after_step(None)
    for batch in prefetched(fetched, range(len(batches))):
        if not after:
            break
        after = after_step(
            optimizer_step(gradients, optimizer, batch, params.learning_rate, params)[0]
        )


def train_plain(
    task: Task,
    after_step: AfterStep,
    dtype: str = "float32",
    device: str = "cpu",
    compiled: bool = False,
) -> None:
    torch.set_num_threads(task.threads)
    params = task.params
    model = plain_loop.PlainGPT(**task.config.model_dump())
    model.load_state_dict(task.initial().state_dict())
    model.to(device)
    optimizer = plain_loop.make_optimizer(
        model, params.learning_rate, (params.beta1, params.beta2), params.weight_decay, compiled
    )
    taken = 0

    def get_batch() -> tuple[Tensor, Tensor]:
        nonlocal taken
        rows = [
            task.rows[number % len(task.rows)]
            for number in range(taken, taken + params.micro_batch_rows)
        ]
        taken += params.micro_batch_rows
        pair = torch.stack([row[:-1] for row in rows]), torch.stack([row[1:] for row in rows])
        if device == "cuda":  # as nanoGPT's get_batch does
            tokens, targets = (each.pin_memory().to(device, non_blocking=True) for each in pair)
            return tokens, targets
        return pair

    network = torch.compile(model) if compiled else model
    lower = dtype != "float32"
    autocast = torch.autocast(device, getattr(torch, dtype)) if lower else nullcontext()
    plain_loop.train(
        network, optimizer, get_batch, task.accumulation, params.gradient_clip, after_step, autocast
    )


def train_with_trainer(
    task: Task,
    after_step: AfterStep,
    activation: str,
    dtype: str = "float32",
    device: str = "cpu",
    compiled: bool = False,
) -> None:
    import transformers

    from model.export.weight_map import (
        build_hugging_face_model,
        export_table,
        hugging_face_config,
        map_tensors,
    )

    torch.set_num_threads(task.threads)
    params = task.params
    config = hugging_face_config(task.config, end_of_text=0)
    config.update(
        {"activation_function": activation, "use_cache": False, "_attn_implementation": "sdpa"}
    )
    tensors = {name: parameter.detach() for name, parameter in task.initial().named_parameters()}
    losses: list[Tensor] = []

    class Rows(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(task.rows)

        def __getitem__(self, number: int) -> dict[str, Tensor]:
            row = task.rows[number]
            # Given the targets, the model does not shift `labels`, which would leave a row's last
            # token out.
            return {"input_ids": row[:-1], "labels": row[1:], "shift_labels": row[1:]}

    class Trainer(transformers.Trainer):
        def training_step(self, *arguments, **named) -> Tensor:
            losses.append(super().training_step(*arguments, **named))
            return losses[-1]

    class Turn(transformers.TrainerCallback):
        """All that is not ours lies between the ends of two steps: fetching, logging, the
        callbacks.
        """

        def on_train_begin(self, arguments, state, control, **_) -> None:
            control.should_training_stop = not after_step(None)

        def on_step_end(self, arguments, state, control, **_) -> None:
            loss = torch.stack(
                losses
            ).sum()  # each is a micro batch's sum by the tokens of the whole batch
            losses.clear()
            control.should_training_stop |= not after_step(loss)

    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            use_cpu=device == "cpu",
            bf16=dtype == "bfloat16",
            torch_compile=compiled,
            max_steps=len(task.rows) // params.batch_rows,
            per_device_train_batch_size=params.micro_batch_rows,
            gradient_accumulation_steps=task.accumulation,
            train_sampling_strategy="sequential",
            learning_rate=params.learning_rate,
            lr_scheduler_type="constant",
            weight_decay=params.weight_decay,
            adam_beta1=params.beta1,
            adam_beta2=params.beta2,
            max_grad_norm=params.gradient_clip,
            remove_unused_columns=False,
            dataloader_pin_memory=device == "cuda",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        model = build_hugging_face_model(
            config, map_tensors(tensors, export_table(task.config.layers))
        )
        del tensors
        Trainer(model, arguments, train_dataset=Rows(), callbacks=[Turn()]).train()


NATIVE = "ours, native"
BFLOAT16 = "ours, native bfloat16"
ARMS: dict[str, Callable[[Task, AfterStep], None]] = {
    "ours": train_ours,
    NATIVE: partial(train_ours, kernels="native"),
    "plain": train_plain,
    "trainer": partial(train_with_trainer, activation="gelu_new"),
    "trainer, GELU in one": partial(train_with_trainer, activation="gelu_pytorch_tanh"),
}


class Turns:
    """In an arm's process: lets it train for as many steps as a line on stdin asks, and answers on
    what was stdout.
    """

    def __init__(self, untimed: int, device: str = "cpu"):
        self.untimed, self.left, self.timed, self.device = untimed, 0, 0, device
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # what libraries print

    def __call__(self, loss: Tensor | None) -> bool:
        self.left -= 1
        if self.left == self.timed:
            self.started = time.perf_counter()
        if self.left > 0:
            return True
        answer = {}
        if loss is not None:
            last = loss.item()
            answer = {
                "seconds": time.perf_counter() - self.started,
                "loss": last,
                "memory": peak_memory(self.device),
            }
        if self.device == "cuda":
            torch.cuda.empty_cache()  # what it does not hold is the other arms'
        if self.untimed:
            ctypes.CDLL(None).malloc_trim(0)
        print(json.dumps(answer), file=self.answers, flush=True)
        self.timed = int(sys.stdin.readline() or 0)
        self.left = self.timed and self.untimed + self.timed
        self.started = time.perf_counter()
        return self.left > 0


def environment_of(arm: str) -> dict[str, str]:
    """Return the environment of an arm's process: ours has that of the stages."""
    kernels = {"ours": "portable", NATIVE: "native", BFLOAT16: "native"}.get(arm)
    of_libraries = (
        environment_of_libraries({"numerics.kernels": kernels}) if kernels else os.environ
    )
    return {**of_libraries, "HF_HUB_OFFLINE": "1"}


class WorkerDied(RuntimeError):
    """An arm's process ended; the message is all it wrote to stderr."""


class Worker:
    """An arm's process, seen from outside."""

    def __init__(self, arm: str, arguments: list[str], module: str = "benchmarks.train"):
        self.arm, self.said = arm, tempfile.TemporaryFile()  # noqa: SIM115
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.said}
        command = [sys.executable, "-m", module, *arguments, "--worker", arm]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment_of(arm), text=True, **pipes
        )
        self._answer()

    def ask(self, steps: int) -> dict:
        """Have it take `steps` steps; return their seconds, the last loss and the process's peak in
        MiB.
        """
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.said.seek(0)
            said = self.said.read().decode()
            raise WorkerDied(f"{said}error: the process of {self.arm} has died")
        return json.loads(line)


def largest_difference(answers: dict[str, dict]) -> float:
    """Return how far the arms' losses are apart; exits with an error where they did not do the same
    work.
    """
    losses = {arm: answer["loss"] for arm, answer in answers.items()}
    difference = max(losses.values()) - min(losses.values())
    if not difference <= TOLERANCE:
        sys.exit(f"error: losses after the same steps differ by more than {TOLERANCE}: {losses}")
    return difference


def compare(name: str, rounds: int, steps: int, threads: int, bfloat16: bool) -> str:
    """Measure, print what was found, and return it in a line."""
    arguments = [
        "--config",
        name,
        "--rounds",
        str(rounds),
        "--steps",
        str(steps),
        "--threads",
        str(threads),
    ]
    workers = {arm: Worker(arm, arguments) for arm in ARMS}
    turns: list[dict[str, dict]] = []
    differences, peaks = [], []
    for number in range(rounds + 1):
        turns.append({arm: worker.ask(steps) for arm, worker in workers.items()})
        differences.append(largest_difference(turns[-1]))
        peaks.append(max(matmul_peaks(threads).values()))
        print(
            f"{name}: " + (f"round {number} of {rounds}" if number else "warm"),
            file=sys.stderr,
            flush=True,
        )
    for worker in workers.values():
        worker.close()

    task = make_task(name, 1, threads)
    seconds = {arm: [turn[arm]["seconds"] / steps for turn in turns[1:]] for arm in ARMS}
    memory = {arm: turns[-1][arm]["memory"] for arm in ARMS}
    peak = statistics.median(peaks)
    config, params = task.config, task.params
    batch = f"{task.accumulation} × {params.micro_batch_rows} rows of {config.context} tokens"
    network = f"{config.layers} × {config.width}, vocabulary {config.vocab_size}"
    print(
        f"{name}: {network}, a step is {batch}; {threads} threads, {rounds} rounds of {steps} steps"
    )
    if bfloat16:
        worker = Worker(BFLOAT16, arguments)
        found = [worker.ask(steps) for _ in range(rounds + 1)]
        worker.close()
        seconds[BFLOAT16] = [turn["seconds"] / steps for turn in found[1:]]
        memory[BFLOAT16] = found[-1]["memory"]
        print(
            f"  bfloat16's loss is off by {abs(found[-1]['loss'] - turns[-1]['ours']['loss']):.1e}"
            " at the end"
        )
    for arm, times in seconds.items():
        median = statistics.median(times)
        print(
            f"  {arm:21} {task.tokens_per_step / median:9,.1f} tokens/s, {median:8.3f} s a step"
            f" ({min(times):.3f} to {max(times):.3f}), {memory[arm]:6,.0f} MiB,"
            f" {task.products_per_step() / median / peak:4.0%} of the peak"
        )
    print(
        f"  losses of a turn's last step differ by {max(differences):.1e} at most; peak of products"
        f" {peak / 1e9:.0f} GFLOP/s"
    )
    against = []
    for arm in [arm for arm in ARMS if arm != "ours"]:
        ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds[arm], strict=True)]
        against.append(
            f"{statistics.median(ratios):.2f} × {arm} ({min(ratios):.2f} to {max(ratios):.2f}, in "
            f"{memory['ours'] / memory[arm]:.2f} of its memory)"
        )
    share = task.products_per_step() / statistics.median(seconds["ours"]) / peak
    step, native = (1000 * statistics.median(seconds[arm]) for arm in ("ours", NATIVE))
    return (
        f"{name}: {step:.1f} ms a step, native {native:.1f}; {', '.join(against)},"
        f" {share:.0%} of a matmul peak of {peak / 1e9:.0f} GFLOP/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", choices=[*CONFIGURATIONS, "both"], default="both", help="micro is the tests'"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help="counted turns of each; 7 of the demonstration's network, 2 of GPT-2's size",
    )
    parser.add_argument("--steps", type=int, help="of a turn; 40 and 1")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="even where the processor has no instructions for it",
    )
    parser.add_argument("--worker", choices=[*ARMS, BFLOAT16], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        steps = CONFIGURATIONS[options.config].untimed + options.steps
        task = make_task(options.config, (options.rounds + 1) * steps, options.threads)
        arms = {**ARMS, BFLOAT16: partial(train_ours, kernels="native", dtype="bfloat16")}
        arms[options.worker](task, Turns(CONFIGURATIONS[options.config].untimed))
        return
    bfloat16 = options.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if not bfloat16:
        print(
            "no bfloat16 figure: this processor has no instructions for it; --bfloat16 measures it"
            " all the same"
        )
    lines = []
    for name in ("demo", "124m") if options.config == "both" else (options.config,):
        configuration = CONFIGURATIONS[name]
        rounds, steps = options.rounds or configuration.rounds, options.steps or configuration.steps
        try:
            lines.append(compare(name, rounds, steps, options.threads, bfloat16))
        except WorkerDied as died:
            sys.exit(str(died))
    print("training: " + "; ".join(lines))


if __name__ == "__main__":
    main()
