"""What the bits of a training run depend on beside the declared inputs, in words."""

import re
from pathlib import Path

import torch

_PROCESSORS = Path("/proc/cpuinfo")
_LISTED = _PROCESSORS.exists()


def machine(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor with the instruction set that torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    name = (
        re.search(r"^model name\s*: (.*)$", _PROCESSORS.read_text(), flags=re.MULTILINE)
        if _LISTED
        else None
    )
    return f"{name[1] if name else 'a processor'} with {torch.backends.cpu.get_cpu_capability()}"
