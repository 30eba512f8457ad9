"""Process-wide settings of every stage that computes with torch."""

import ctypes
import os

import torch

from model.errors import PipelineError


def set_deterministic(threads: int) -> None:
    """Pin what makes a run's bits depend on the machine's mood: the thread count and the choice of kernels."""
    # cuBLAS reads this at its first call; without it some products are not reproducible.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)


def require_device(key: str, device: str) -> None:
    """Raise PipelineError when params.yaml's `key` names a device that this machine lacks."""
    if device == "cuda" and not torch.cuda.is_available():
        raise PipelineError(f"params.yaml: {key}: cuda is not available to torch {torch.__version__} here; set cpu")


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks instead of returning them to the kernel at every step.

    Page faults on fresh blocks cost 40 % of the training rate of a 4 × 128 model on two cores. A no-op without glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>
        # Older glibc takes no mmap threshold above 32 MiB.
        if mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25):
            mallopt(trim_threshold, 2**31 - 1)
