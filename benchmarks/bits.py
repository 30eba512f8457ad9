"""Where bits depend on the processor: what training computes, hashed under other instruction sets
and on emulated processors.

    python -m benchmarks.bits
        with every cap on this machine's own; a minute
    python -m benchmarks.bits --under "qemu-x86_64 -cpu Haswell"
        also on what a command emulates; many minutes

Each line is a process with variables of the environment that the seal takes away from stages
(pipeline/seal/confinement.py). It names what came out in other bits than in the first one. A
network of the demonstration's width is trained for a few steps.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

CASES = [
    {},
    {"ATEN_CPU_CAPABILITY": "avx2"},
    {"ATEN_CPU_CAPABILITY": "default"},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    {"MKL_CBWR": "AVX2"},
    {"MKL_CBWR": "COMPATIBLE"},
    {"THREADS": "1"},
]
STEPS, ROWS, CONTEXT, WIDTH, VOCABULARY = 5, 2, 64, 128, 1024


def hashes(threads: int) -> dict[str, str]:
    """Return a hash of each kernel's result on the same numbers, and of the weights after a few
    steps of training.
    """
    import numpy as np
    import torch
    import torch.nn.functional as F

    from common.sections import read_section
    from model.network.gelu_linear import gelu_linear
    from model.network.gpt import GPT, GPTConfig
    from model.params.pretrain import PretrainParams
    from model.pretraining.loop import LossNetwork, optimizer_step
    from model.pretraining.losses import mean_loss
    from model.pretraining.optimizer import make_optimizer
    from model.runtime.torch_setup import set_deterministic

    set_deterministic(threads)
    draw = np.random.default_rng(0)
    found = {}

    def numbers(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.from_numpy(
            (draw.standard_normal(shape) * scale).astype(np.float32)
        ).requires_grad_()

    def keep(name: str, result: torch.Tensor, *inputs: torch.Tensor) -> None:
        gradients = torch.autograd.grad(result, inputs, torch.ones_like(result)) if inputs else ()
        for kind, tensors in (("", [result]), (", backward", gradients)):
            if tensors:
                content = b"".join(
                    tensor.detach().contiguous().numpy().tobytes() for tensor in tensors
                )
                found[name + kind] = hashlib.sha256(content).hexdigest()

    rows = ROWS * CONTEXT
    x, wide = numbers(rows, WIDTH), numbers(rows, 4 * WIDTH)
    weight, bias, back = numbers(4 * WIDTH, WIDTH), numbers(4 * WIDTH), numbers(WIDTH, 4 * WIDTH)
    keep("product", F.linear(x, weight, bias), x, weight, bias)
    keep("GELU and product", gelu_linear(wide, back, bias[:WIDTH]), wide, back)
    heads = [numbers(ROWS, 4, CONTEXT, WIDTH // 4) for _ in range(3)]
    keep("attention", F.scaled_dot_product_attention(*heads, is_causal=True), *heads)
    keep("layer norm", F.layer_norm(x, (WIDTH,), bias[:WIDTH]), x, bias)
    output, targets = (
        numbers(VOCABULARY, WIDTH, scale=0.1),
        torch.from_numpy(draw.integers(0, VOCABULARY, rows)),
    )
    keep("output layer and loss", mean_loss(x, output, targets), x, output)
    for name in ("exp", "log", "sigmoid", "tanh"):
        keep(name, getattr(torch, name)(wide.detach().abs() + 0.1))
    keep("sum", wide.detach().sum())

    params = read_section("pretrain", PretrainParams, REPOSITORY / "params.yaml")
    config = GPTConfig(layers=2, heads=4, width=WIDTH, context=CONTEXT, vocab_size=VOCABULARY)
    model = GPT(config).initialize(torch.Generator().manual_seed(0))
    keep(
        "initial weights",
        torch.cat([parameter.detach().flatten() for parameter in model.parameters()]),
    )
    network, optimizer = LossNetwork(model, params), make_optimizer(model, params)
    for _ in range(STEPS):
        batch = torch.from_numpy(draw.integers(0, VOCABULARY, (ROWS, CONTEXT + 1)))
        optimizer_step(network, optimizer, batch, params.learning_rate, params)
    keep(
        "weights after training",
        torch.cat([parameter.detach().flatten() for parameter in model.parameters()]),
    )
    return found


def ask(case: dict[str, str], under: str) -> dict[str, str]:
    command = [*under.split(), sys.executable, "-m", "benchmarks.bits", "--worker"]
    run = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **case},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--under",
        action="append",
        default=[],
        metavar="COMMAND",
        help="what emulates another processor",
    )
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(hashes(int(os.environ.get("THREADS", "2")))))
        return
    first = ask(CASES[0], "")
    print(f"{len(first)} results, two threads")
    for case, under in [*((case, "") for case in CASES), *(({}, under) for under in options.under)]:
        found = ask(case, under)
        others = [name for name in first if found[name] != first[name]]
        label = under or " ".join(f"{name}={value}" for name, value in case.items()) or "again"
        print(f"{label}: {', '.join(others) or 'the same bits'}", flush=True)


if __name__ == "__main__":
    main()
