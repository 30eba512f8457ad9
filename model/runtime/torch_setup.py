"""Process-wide settings of the stages that compute with torch."""

import ctypes
import faulthandler
import os
import signal
import sys
import traceback
from collections.abc import Callable

import torch

from common.errors import PipelineError


def require_device(key: str, device: str) -> None:
    """Raise PipelineError if the device of params.yaml's `key` is not on this machine."""
    if device == "cuda" and not torch.cuda.is_available():
        raise PipelineError(
            f"params.yaml: {key}: cuda is not available to torch {torch.__version__} here; set cpu"
        )


def require_dtype(key: str, dtype: str, device: str) -> None:
    """Raise PipelineError if the device has no arithmetic for the dtype of params.yaml's `key`.

    With bfloat16, also avoids AMX where it is broken (`avoid_broken_amx`).
    """
    if dtype == "bfloat16":
        if device == "cuda":
            has = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has = torch.cpu.get_capabilities().get("avx512_bf16", False)
        if not has:
            raise PipelineError(
                f"{key}: this machine's {device} has no bfloat16 arithmetic; set float32"
            )
        avoid_broken_amx()


def _product() -> None:
    """Multiply two bfloat16 matrices of 64 × 64, as training in bfloat16 does."""
    torch.set_num_threads(1)
    torch.mm(*torch.ones(2, 64, 64, dtype=torch.bfloat16))


def avoid_broken_amx(product: Callable[[], None] = _product) -> None:
    """Turn AMX off in oneDNN if the processor reports AMX but crashes in it, as some VMs do.

    A child process tries `product`. Call this before the process multiplies anything, since oneDNN
    reads its variable at the first product. Order: fork; the child multiplies; the parent waits; if
    an illegal instruction or a segmentation fault ended the child, the parent sets the variable.
    Raises PipelineError if the child fails in another way, which says nothing about the processor.
    """
    if not torch.cpu.get_capabilities().get("amx_tile", False):
        return
    child = os.fork()
    if child == 0:
        status = 1
        try:
            # A crash is expected here, so no traceback of it.
            faulthandler.disable()
            product()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            # Without this, an exception would let the child go on with the parent's work.
            os._exit(status)
    # Negative: the number of the signal that ended the child.
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status in (-signal.SIGILL, -signal.SIGSEGV):
        # The largest instruction set without AMX.
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_FP16"
        print(
            "warning: the processor reports AMX and crashes in it; oneDNN computes without AMX",
            file=sys.stderr,
        )
    elif status:
        raise PipelineError(
            f"bfloat16 was tried in a child process, which ended with {status}; run it again, or "
            "set float32"
        )


def own_device(device: str, local_rank: int) -> torch.device:
    """Return the device of process `local_rank` of this machine; make a GPU torch's default.

    Raises PipelineError if the machine has fewer GPUs than processes.
    """
    if device == "cpu":
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise PipelineError(
            f"params.yaml: process {local_rank + 1} of this machine has no GPU of its own, there "
            f"are {torch.cuda.device_count()}; set processes to at most that"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def keep_freed_memory() -> None:
    """Let glibc keep large freed blocks instead of returning them to the kernel at every step.

    Page faults on fresh blocks cost 40 % of the training rate of a network of 4 layers and width
    128 on two cores. Without glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>.
        trim_threshold, mmap_threshold = -1, -3
        # Older glibc takes no mmap threshold above 32 MiB.
        if mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25):
            mallopt(trim_threshold, 2**31 - 1)
