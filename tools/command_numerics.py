"""The kernels that a command computes with, and the environment that they need."""

import argparse
import os
import sys

from common.errors import PipelineError
from pipeline.seal.environment import environment_of_libraries


def restart_for_kernels(kernels: str) -> None:
    """Start this command again with the variables of `kernels`, unless it has them.

    Libraries read the variables when they are loaded, so call this before importing torch.
    """
    environment = environment_of_libraries({"numerics.kernels": kernels})
    if environment != os.environ:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def chosen_kernels(kernels: str | None, device: str, dtype: str = "float32") -> str:
    """Return --kernels, by default portable if possible; raise PipelineError if it is not."""
    can_be_portable = device == "cpu" and dtype == "float32"
    if kernels == "portable" and not can_be_portable:
        raise PipelineError(
            f"--kernels: portable kernels compute in float32 on a CPU, not in {dtype} on "
            f"{device}; set native"
        )
    return kernels or ("portable" if can_be_portable else "native")


def add_kernels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kernels",
        choices=("portable", "native"),
        help="portable: the same bytes on every x86-64 processor with AVX2, on a CPU in float32 and"
        " the default there; native: torch's own",
    )


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)
