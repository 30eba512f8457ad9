"""The variables of the environment that reach a stage; all others are deleted.

A variable may choose kernels, a library's behaviour, other modules or a time zone, and DVC does not
track it. This is a list of what stages need, because nobody can list what a library may read next
year. The module imports little: pipeline/seal/start.py uses it before anything else runs.
"""

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from pipeline.declared.settings import SETTINGS

# Programs, temporary files, the terminal, this stage's GPUs and cores, and its share of pieces.
_EVERY_STAGE = {
    "COLUMNS", "CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "DVC_STAGE", "HIP_VISIBLE_DEVICES",
    "HOME", "LD_LIBRARY_PATH", "LINES", "NO_COLOR", "PATH", "PIPELINE_SHARE", "PIPELINE_THREADS",
    "PYTHONUNBUFFERED", "ROCR_VISIBLE_DEVICES", "TERM", "TMPDIR",
}  # fmt: skip
# Proxies, certificates and caches of downloads; pyproject.toml adds a project's own.
_NETWORK = {
    "ALL_PROXY", "CURL_CA_BUNDLE", "HTTPS_PROXY", "HTTP_PROXY", "NETRC", "NO_PROXY",
    "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "XDG_CACHE_HOME", "all_proxy",
    "http_proxy", "https_proxy", "no_proxy",
    *SETTINGS.environment.get("network", ()),
}  # fmt: skip
# torchrun and Slurm describe the other processes, and the network between them, by these.
_SEVERAL_PROCESSES = {
    "GROUP_RANK", "GROUP_WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
    "MASTER_PORT", "RANK", "ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE", "WORLD_SIZE",
}  # fmt: skip
_OF_SEVERAL_PROCESSES = (
    "FI_", "GLOO_", "NCCL_", "OFI_", "PIPELINE_", "SLURMD_", "SLURM_", "TORCHELASTIC_", "UCX_",
)  # fmt: skip

# The same values on every machine: sets of text have the same order, text files are UTF-8, and a
# day begins at the same moment. GLIBC_TUNABLES asks for huge pages, where the kernel leaves that to
# programs: a training step of the demonstration is a twentieth faster.
_FIXED = {
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "LC_ALL": "C.UTF-8",
    "LOGNAME": "stage",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "TZ": "UTC",
    "USER": "stage",
}
# For Python processes that a stage starts. Set only once the stage runs: torchrun finds `stages` in
# the working directory, which PYTHONSAFEPATH would exclude.
_FOR_CHILDREN = {"PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1"}

LIBRARY_PATH = "PIPELINE_LIBRARY_PATH"


def of_any_stage() -> dict[str, str]:
    """Return the variables to start an interpreter with, before its stage is known."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if _reaches(name, network=True, several=True)
    }
    kept.pop("LD_LIBRARY_PATH", None)
    folders = os.environ.get(LIBRARY_PATH) or _folder_of_python()
    return {**kept, **_FIXED, **({"LD_LIBRARY_PATH": folders} if folders else {})}


def of_warm_interpreter(chosen: dict[str, str]) -> dict[str, str]:
    """Return the variables to import libraries with, for stages with the variables `chosen`.

    They allow no network, and the home does not exist. Each fork gets its own stage's variables.
    """
    kept = {
        name: value
        for name, value in of_any_stage().items()
        if name in _FIXED or _reaches(name, network=False, several=False)
    }
    kept.pop("TMPDIR", None)
    return {**kept, "HOME": "/nonexistent", **chosen, **SETTINGS.offline}


def clean_environment(network: bool, several: bool, chosen: dict[str, str]) -> None:
    """Delete all variables but those that the stage may have, and set those `chosen` for it.

    Without `network`, also set those that keep libraries offline.
    """
    for name in [
        name for name in os.environ if name not in _FIXED and not _reaches(name, network, several)
    ]:
        del os.environ[name]
    os.environ.update({**_FOR_CHILDREN, **chosen})
    if not network:
        os.environ.update(SETTINGS.offline)


def library_variables(values: dict[str, Any]) -> dict[str, str]:
    """Return pyproject.toml's variables for a stage whose parameters have `values`.

    `values` maps keys of params.yaml to values: each key that a variable of pyproject.toml names
    and that the stage declares.
    """
    if not _processor_has(SETTINGS.variables_need):
        return {}
    chosen = {}
    for name, value in SETTINGS.variables.items():
        if isinstance(value, str):
            chosen[name] = value
        else:
            [(key, choices)] = value.items()
            if str(values.get(key)) in choices:
                chosen[name] = choices[str(values[key])]
    return chosen


def environment_of_libraries(values: dict[str, Any]) -> dict[str, str]:
    """Return this process's environment with `library_variables(values)`, for child processes.

    Other variables of the same libraries, such as OPENBLAS_L2_SIZE, are left out, as in the seal.
    """
    libraries = tuple(name.split("_")[0] + "_" for name in SETTINGS.variables)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(libraries)}
    return {**kept, **library_variables(values)}


def keys_of_variables() -> list[str]:
    """Return the keys of params.yaml on which pyproject.toml's variables depend."""
    return [
        key for value in SETTINGS.variables.values() if isinstance(value, dict) for key in value
    ]


def _processor_has(flags: Sequence[str]) -> bool:
    """Return whether /proc/cpuinfo lists all `flags`."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            found = next((line.split() for line in file if line.startswith("flags")), [])
    except OSError:
        found = []
    return set(flags) <= set(found)


def _reaches(name: str, network: bool, several: bool) -> bool:
    return (
        name in _EVERY_STAGE
        or (network and any(fnmatchcase(name, each) for each in _NETWORK))
        or (several and (name in _SEVERAL_PROCESSES or name.startswith(_OF_SEVERAL_PROCESSES)))
    )


def _folder_of_python() -> str | None:
    """Return the folder of libpython; None unless LD_LIBRARY_PATH may be the way to it."""
    if "LD_LIBRARY_PATH" not in os.environ:
        return None
    import sysconfig

    return (
        sysconfig.get_config_var("LIBDIR") if sysconfig.get_config_var("Py_ENABLE_SHARED") else None
    )
