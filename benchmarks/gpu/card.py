"""Which GPU this machine has, what runs on it, and its peak of matrix products."""

import platform
import re
import shutil
import sysconfig
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from tools.machine_limits import cuda_problem

# Dense bfloat16 products with float32 sums, in TFLOP/s, from NVIDIA's data sheets; SXM where a
# card has several forms. The longest name that is part of the card's wins.
PEAKS = {
    "A10": 125,
    "A100": 312,
    "B200": 2250,
    "GH200": 989,
    "H100": 989,
    "H100 NVL": 835,
    "H100 PCIe": 756,
    "H200": 989,
    "H200 NVL": 835,
    "L4": 121,
    "L40": 181,
    "L40S": 362,
}
_LIBRARIES = ("torch", "triton", "transformers", "tokenizers", "numpy", "lm-eval", "dvc")


def no_gpu() -> str | None:
    """Return why there is no GPU to use, or None if there is one."""
    problem = cuda_problem(1, "float32")
    if problem:
        return problem[1].removeprefix("cuda: ").split(";")[0]
    import torch

    return None if torch.cuda.is_available() else f"torch {torch.__version__} finds none"


def machine(rehearse: bool = False) -> dict[str, str]:
    """Return the date, the card, its driver, and the versions of what computes."""
    import torch

    found = {"date": datetime.now(UTC).date().isoformat(), "python": platform.python_version()}
    if rehearse:
        found["card"] = "none: a rehearsal on the CPU"
    else:
        properties = torch.cuda.get_device_properties(0)
        found["card"] = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        found["cuda"] = str(torch.version.cuda)
        found["cudnn"] = str(torch.backends.cudnn.version())
        found["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    for library in _LIBRARIES:
        found[library] = version(library) or "not installed"
    return found


def version(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def no_compiler() -> str | None:
    """Return what torch.compile lacks here to compile for a GPU, or None."""
    if not (shutil.which("gcc") or shutil.which("clang")):
        return "no C compiler, which Triton needs; install gcc"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "no Python.h, which Triton needs; install Python's headers"
    return None


def peak_flops(name: str) -> float | None:
    """Return a card's peak in FLOP/s by its data sheet, or None for a card not in PEAKS."""
    if "MIG" in name:  # a part of a card
        return None
    known = [each for each in PEAKS if re.search(rf"\b{each}\b", name)]
    return PEAKS[max(known, key=len)] * 1e12 if known else None
