"""Compare the speed of training: our loop, a plain one after nanoGPT, and transformers' Trainer.

    python -m benchmarks.train
        both configurations; forty minutes on two cores, 16 GB of memory
    python -m benchmarks.train --config demo
        params.yaml's network and batch; about two minutes
    python -m benchmarks.train --config 124m
        GPT-2's size, steps of two micro batches of 4 × 1,024 tokens; half an hour

The arms take turns; while one computes the others wait. Each arm has its own process, with the same
initial weights, rows, AdamW, clipping and number of threads. Ours runs with portable kernels and
with native ones. The Trainer runs with GPT-2's own `gelu_new`, which transformers computes in
several operations, and with the same function in one operation (`gelu_pytorch_tanh`).

A turn is a few steps. Its time runs from the request to the end of the last step; it includes
fetching rows, but no set-up. The first turn does not count. The benchmark stops if the arms' losses
differ at the end of a turn.

Memory is a process's peak, including libraries. At GPT-2's size a process returns freed memory when
it waits; otherwise the arms would not fit beside each other. A turn then begins with an untimed
step, in which the memory comes back.

The share of the peak compares matrix products per second with what a product of two 2048 × 2048
matrices reaches here. Each product of the network counts three times (forward, and two backward),
and attention's square counts half. bfloat16 is measured last, for ours with native kernels only, if
the processor has instructions for it. The last line is a summary.
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

# Called with None before the first step, and with the mean loss after each; False ends training.
AfterStep = Callable[[Tensor | None], bool]


class Configuration(NamedTuple):
    profile: str
    batch: dict[str, int]  # replaces the profile's values
    rounds: int
    steps: int  # of a turn
    # Steps at the start of a turn, in which the memory returned while waiting comes back.
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
    """What every arm trains: network, seed of the initial weights, batches, AdamW's settings."""

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
        """Return the floating-point operations of a step's matrix products, each counted once."""
        config = self.config
        of_token = config.width * (12 * config.layers * config.width + config.vocab_size)
        of_attention = (
            config.layers * config.width * config.context
        )  # the scores and the weighted sum, over half of the square
        return 3 * 2 * (of_token + of_attention) * self.tokens_per_step


def make_task(name: str, steps: int, threads: int) -> Task:
    """Return configuration `name` with rows for `steps` steps.

    The tokens' frequencies are as uneven as those of words.
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
    if compiled:  # the first step compiles, by the settings of then
        import torch._inductor.config as inductor

        inductor.deterministic = deterministic
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
            # Given shifted targets, the model does not shift `labels` itself. Its shift would drop
            # a row's last token.
            return {"input_ids": row[:-1], "labels": row[1:], "shift_labels": row[1:]}

    class Trainer(transformers.Trainer):
        def training_step(self, *arguments, **named) -> Tensor:
            losses.append(super().training_step(*arguments, **named))
            return losses[-1]

    class Turn(transformers.TrainerCallback):
        """Ends of steps; between two of them lies all of the Trainer's work, such as logging."""

        def on_train_begin(self, arguments, state, control, **_) -> None:
            control.should_training_stop = not after_step(None)

        def on_step_end(self, arguments, state, control, **_) -> None:
            loss = torch.stack(
                losses
            ).sum()  # each is a micro batch's summed loss, divided by the whole batch's tokens
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
            # It would wait for the device after each micro batch; our sft stage turns it off, too.
            logging_nan_inf_filter=False,
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
    """The turns of an arm, in its own process.

    A line on stdin has the number of steps to train; the answer goes to the original stdout.
    """

    def __init__(self, untimed: int, device: str = "cpu"):
        self.untimed, self.left, self.timed, self.device = untimed, 0, 0, device
        self.answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # libraries print to stderr from here on

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
    """Return the environment of an arm's process; our arms have that of the stages."""
    kernels = None
    if arm.startswith("ours"):
        kernels = "portable" if arm == "ours" else "native"
    of_libraries = (
        environment_of_libraries({"numerics.kernels": kernels}) if kernels else os.environ
    )
    return {**of_libraries, "HF_HUB_OFFLINE": "1"}


class WorkerDied(RuntimeError):
    """An arm's process ended; the message is all it wrote to stderr."""


class Worker:
    """An arm's process, as the benchmark sees it."""

    def __init__(self, arm: str, arguments: list[str], module: str = "benchmarks.train"):
        self.arm, self.said = arm, tempfile.TemporaryFile()  # noqa: SIM115
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.said}
        command = [sys.executable, "-m", module, *arguments, "--worker", arm]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment_of(arm), text=True, **pipes
        )
        self._answer()

    def ask(self, steps: int) -> dict:
        """Let it take `steps` steps; return seconds, the last loss and the peak memory in MiB."""
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
    """Return the largest difference between the arms' losses; exit if it exceeds TOLERANCE."""
    losses = {arm: answer["loss"] for arm, answer in answers.items()}
    difference = max(losses.values()) - min(losses.values())
    if not difference <= TOLERANCE:
        sys.exit(f"error: losses after the same steps differ by more than {TOLERANCE}: {losses}")
    return difference


def compare(name: str, rounds: int, steps: int, threads: int, bfloat16: bool) -> str:
    """Measure and print the results; return a summary in one line."""
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
        "--config",
        choices=[*CONFIGURATIONS, "both"],
        default="both",
        help="networks to train; micro is for tests",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        help="counted turns of each arm (default: 7 for the demonstration, 2 for GPT-2's size)",
    )
    parser.add_argument("--steps", type=int, help="steps of a turn (default: 40 and 1)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--bfloat16",
        action="store_true",
        help="measure bfloat16 even if the processor has no instructions for it",
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
