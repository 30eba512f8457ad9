"""What params.yaml asks for and the machine lacks is refused in the first second, if a stage that
may run needs it.
"""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conditions import conditions, with_conditions
from repository import REPOSITORY

from common.sections import validate
from common.yaml_file import load
from model.params.all_sections import Params
from tools import machine_limits as machine

# With native kernels: portable ones are refused on GPUs before a GPU is looked for.
MICRO = (
    (REPOSITORY / "profiles/micro.yaml")
    .read_text()
    .replace("kernels: portable", "kernels: native")
    .replace("threads: null", "threads: 1")
)


@pytest.fixture
def root(tmp_path) -> Path:
    """A tree whose stages have never run."""
    for name in ("dvc.yaml", "libraries.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    (tmp_path / "params.yaml").write_text(MICRO)
    return tmp_path


def changed(root: Path, *pairs: tuple[str, str]) -> list[str]:
    text = MICRO
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    (root / "params.yaml").write_text(text)
    return machine.lacks(root)


class Driver:
    """As much of libcuda as is asked for: GPUs by the major number of their compute capability."""

    def __init__(self, *capabilities: int, status: int = 0):
        self._capabilities, self._status = capabilities, status

    def cuInit(self, flags: int) -> int:
        return self._status

    def cuDeviceGetCount(self, count) -> int:
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = len(self._capabilities)
        return 0

    def cuDeviceGetAttribute(self, value, attribute: int, number: int) -> int:
        ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = self._capabilities[number]
        return 0


def no_driver() -> ctypes.CDLL:
    return ctypes.CDLL("libno_such_driver.so.1")


def test_what_a_machine_has_is_not_mentioned(root):
    assert machine.lacks(root) == []


@pytest.mark.parametrize(
    ("driver", "processes", "dtype", "expected"),
    [
        (
            no_driver,
            1,
            "float32",
            ("device", "cuda: no NVIDIA driver (libcuda.so.1) on this machine; set cpu"),
        ),
        (Driver, 1, "float32", ("device", "cuda: the NVIDIA driver finds no GPU; set cpu")),
        (
            lambda: Driver(9, status=100),
            1,
            "float32",
            ("device", "cuda: the NVIDIA driver finds no GPU; set cpu"),
        ),
        (
            lambda: Driver(9),
            2,
            "float32",
            ("processes", "2, and there are 1 GPUs; each process needs its own"),
        ),
        (
            lambda: Driver(9, 7),
            2,
            "bfloat16",
            ("dtype", "bfloat16: GPU 1 has no bfloat16 arithmetic; set float32"),
        ),
        (lambda: Driver(9, 7), 2, "float32", None),
        (lambda: Driver(9), 1, "bfloat16", None),
    ],
)
def test_a_gpu_is_asked_for_through_the_driver(monkeypatch, driver, processes, dtype, expected):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "torch_build", lambda: ("2.13.0+cu130", False, False))
    monkeypatch.setattr(machine, "load_driver", driver)
    assert machine.cuda_problem(processes, dtype) == expected


def test_the_build_of_torch_is_read_without_importing_it():
    import torch

    version, is_for_cpu, is_for_amd = machine.torch_build()
    assert version == torch.__version__
    assert is_for_cpu == (torch.version.cuda is None and torch.version.hip is None)
    assert is_for_amd == (torch.version.hip is not None)


def test_the_processors_bfloat16_is_what_torch_says(tmp_path):
    import torch

    if Path("/proc/cpuinfo").exists():
        assert machine.cpu_has_bfloat16() == torch.cpu.get_capabilities().get("avx512_bf16", False)
    for flags, expected in (("fpu avx512_bf16 sse", True), ("fpu sse", False)):
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
        assert machine.cpu_has_bfloat16(tmp_path / "cpuinfo") == expected
    assert machine.cpu_has_bfloat16(tmp_path / "missing")


@pytest.mark.parametrize("stage", ["pretrain", "evaluate", "samples", "sft", "generate", "probes"])
def test_every_section_with_a_device_is_looked_at(root, monkeypatch, stage):
    monkeypatch.setattr(
        machine, "cuda_problem", lambda processes, dtype: ("device", "cuda: none; set cpu")
    )
    before, section, after = MICRO.partition(f"\n{stage}:\n")
    (root / "params.yaml").write_text(
        before + section + after.replace("device: cpu", "device: cuda", 1)
    )
    assert machine.lacks(root) == [f"params.yaml: {stage}.device: cuda: none; set cpu"]
    assert set(machine._DEVICES) == {
        name for name, section in load(MICRO.encode(), "x").items() if "device" in section
    }


WHEEL = "fetch.ranks.source"
LACKS = {
    "a package": (
        ("package: mlx-whisper", "package: no-such-package"),
        f"{WHEEL}.package: no-such-package is not installed; run make setup, or correct the name",
    ),
    "a version": (
        ("version: 0.4.3", "version: 0.4.2"),
        (
            f"{WHEEL}.version: 0.4.2, and mlx-whisper 0.4.3 is installed; run make setup, or"
            " correct the version"
        ),
    ),
    "a file of a wheel": (
        ("gpt2.tiktoken", "gpt3.tiktoken"),
        (
            f"{WHEEL}.files.0.path: mlx_whisper/assets/gpt3.tiktoken: mlx-whisper 0.4.3 has no such"
            " file"
        ),
    ),
    "a file": (
        ("kind: wheel\n      package: mlx-whisper\n      version: 0.4.3\n", "kind: files\n"),
        f"{WHEEL}.files.0.path: mlx_whisper/assets/gpt2.tiktoken: no such file",
    ),
    "a folder": (
        (
            MICRO[MICRO.index("kind: wheel", MICRO.index("passages:")) : MICRO.index("  gsm8k:")],
            f"kind: tree\n      path: nowhere\n      sha256: {'a' * 64}\n",
        ),
        "fetch.passages.source.path: nowhere: no such folder",
    ),
}


@pytest.mark.parametrize("name", LACKS)
def test_a_source_that_is_not_here_is_named_by_its_key(root, name):
    change, line = LACKS[name]
    assert changed(root, change) == [f"params.yaml: {line}"]


def test_nodes_need_an_allocation(root, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    [line] = changed(root, ("nodes: 1", "nodes: 2"))
    assert line.startswith(
        "params.yaml: pretrain.nodes: 2, and this is no Slurm allocation (no SLURM_JOB_ID); submit"
        " it as"
    )


def test_memory_that_a_micro_batch_exceeds_for_certain_is_refused(root, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 10**9)
    [line] = changed(root, ("context: 96", "context: 65536"), ("width: 32", "width: 320"))
    assert line.startswith(
        "params.yaml: model.context: one micro batch of 2 rows × 65536 tokens needs more than 2.7"
        " GB in 2 layers"
    )
    assert changed(root, ("context: 96", "context: 1024")) == []


def test_memory_that_one_condition_exceeds_is_named_with_it(root, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 10**6)
    wide = conditions(baseline={}, wide={"model": {"width": 3200}})
    (root / "params.yaml").write_text(with_conditions(MICRO, wide))
    [line] = machine.lacks(root)
    assert line.startswith("params.yaml: conditions.wide: model.context: one micro batch of 2 rows")
    # What it lacks stops its own stages, and no other condition's.
    monkeypatch.setattr(machine, "_may_run", lambda root: {"pretrain", "pretrain@baseline-1"})
    assert machine.lacks(root) == []
    monkeypatch.setattr(machine, "_may_run", lambda root: {"pretrain", "pretrain@wide-1"})
    assert machine.lacks(root) == [line]


@pytest.mark.parametrize(
    "limits",
    [("max", None), ("1000", None), (None, "1000"), (None, str(2**63 - 4096)), (None, None)],
)
def test_the_memory_of_a_container_is_its_limit(tmp_path, monkeypatch, limits):
    """`memory.max` is that of version 2 of control groups, the other that of version 1, each where
    there is one.
    """
    paths = tuple(tmp_path / name for name in ("memory.max", "memory.limit_in_bytes"))
    for path, limit in zip(paths, limits, strict=True):
        if limit is not None:
            path.write_text(f"{limit}\n")
    monkeypatch.setattr(machine, "_MEMORY_LIMITS", paths)
    monkeypatch.setattr(machine, "_physical_memory", lambda: 5000)
    assert machine.memory() == (1000 if "1000" in limits else 5000)


def test_memory_that_the_system_does_not_tell_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_MEMORY_LIMITS", (tmp_path / "missing",))
    monkeypatch.setattr(machine, "_physical_memory", lambda: -1)
    assert machine.memory() is None


def test_what_no_stage_that_may_run_needs_is_not_asked_for(root, monkeypatch):
    """Results that were computed elsewhere can be looked at on a machine without a GPU."""
    monkeypatch.setattr(
        machine, "cuda_problem", lambda processes, dtype: ("device", "cuda: none; set cpu")
    )
    pairs = (("device: cpu", "device: cuda"),)
    assert changed(root, *pairs) == ["params.yaml: pretrain.device: cuda: none; set cpu"]
    monkeypatch.setattr(machine, "_may_run", lambda root: {"probes", "probes@sft-baseline-1"})
    assert changed(root, *pairs) == []
    monkeypatch.setattr(machine, "_may_run", lambda root: {"pretrain", "pretrain@baseline-1"})
    assert changed(root, *pairs) == ["params.yaml: pretrain.device: cuda: none; set cpu"]
    monkeypatch.setattr(machine, "_may_run", lambda root: None)  # unknown
    assert changed(root, *pairs) == ["params.yaml: pretrain.device: cuda: none; set cpu"]


def test_which_stages_may_run_is_read_from_the_lock(root):
    assert {"fetch@tasks", "pretrain", "report"} <= machine._may_run(root)
    (root / "dvc.yaml").write_text("stages: [")
    assert machine._may_run(root) is None


def test_params_that_are_not_valid_are_the_stages_to_refuse(root):
    assert changed(root, ("device: cpu", "device: tpu"), ("gpt2.tiktoken", "x")) == []


def test_the_stage_params_refuses_before_it_runs(tmp_path):
    for name in ("dvc.yaml", "libraries.yaml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    for name in ("common", "model", "stages", "pipeline", "tools", "pyproject.toml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "params.yaml").write_text(MICRO.replace("gpt2.tiktoken", "gpt3.tiktoken"))
    done = subprocess.run(
        [sys.executable, "-m", "stages.params"], cwd=tmp_path, text=True, capture_output=True
    )
    assert done.returncode == 1
    assert done.stderr == f"error: params.yaml: {LACKS['a file of a wheel'][1]}\n"
    assert not (tmp_path / "data").exists()


def test_the_parameters_of_this_test_are_valid():
    validate(load(MICRO.encode(), "params.yaml"), Params, Path("params.yaml"))
