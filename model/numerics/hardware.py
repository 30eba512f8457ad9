"""The name of the hardware, on which the last bits of a training run depend besides its inputs."""

import re
from pathlib import Path

import torch

from model.numerics import known_answer, portable

_PROCESSORS = Path("/proc/cpuinfo")
_LISTED = _PROCESSORS.exists()


def machine(device: torch.device) -> str:
    """Return the GPU's name, or the processor's with the instruction set that torch uses.

    Returns `portable kernels` if they are installed and compute the known answer, since all such
    processors compute the same bytes.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    if portable.is_installed() and known_answer.holds():
        return "portable kernels"
    name = (
        re.search(r"^model name\s*: (.*)$", _PROCESSORS.read_text(), flags=re.MULTILINE)
        if _LISTED
        else None
    )
    return f"{name[1] if name else 'a processor'} with {torch.backends.cpu.get_cpu_capability()}"
