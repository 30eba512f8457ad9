"""What a stage sets, what it knows of its machine, and what it says where bytes are others."""

import pytest
import torch
from portable_kernels import VARIABLES, run
from pydantic import ValidationError

from common.errors import PipelineError
from model.numerics import hardware, known_answer, processor
from model.numerics.setting import set_numerics
from model.numerics.side_by_side import SideBySide
from model.params.numerics import NumericsParams
from model.runtime.cores import cores
from pipeline.declared.settings import SETTINGS

SET = """
import torch
from model.numerics.hardware import machine
from model.numerics.setting import set_numerics
from model.params.numerics import NumericsParams
numerics = set_numerics(NumericsParams(kernels="portable", threads=None))
print(numerics.portable, numerics.threads, numerics.side_by_side.threads)
print(torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
print(machine(torch.device("cpu")))
"""
CAN = pytest.mark.skipif(processor.lacks() is not None, reason=processor.lacks() or "")


@CAN
@pytest.mark.slow("processes that import torch", minutes=0.5)
class TestKnownAnswer:
    def test_it_holds_here_and_all_processors_are_one(self):
        done = run(SET, PIPELINE_THREADS="3")
        assert done.stdout.splitlines() == ["True 3 3", "1 True", "portable kernels"]
        assert done.stderr == ""

    @pytest.mark.parametrize(
        "changes",
        [
            {"ATEN_CPU_CAPABILITY": "default"},
            {"OPENBLAS_CORETYPE": "Nehalem"},
        ],
    )
    def test_other_kernels_cost_one_line_and_have_a_machine_of_their_own(self, changes):
        done = run(SET, PIPELINE_THREADS="1", **changes)
        assert done.returncode == 0
        [line] = done.stderr.splitlines()
        assert line.startswith("warning: numerics.kernels is portable, and these libraries compute")
        assert done.stdout.splitlines()[2].endswith(
            f"with {'DEFAULT' if 'ATEN_CPU_CAPABILITY' in changes else 'AVX2'}"
        )

    def test_only_the_first_of_several_processes_says_so(self):
        done = run(SET, PIPELINE_THREADS="1", OPENBLAS_CORETYPE="Nehalem", RANK="1")
        assert done.stderr == ""

    def test_the_command_says_whether_it_holds(self):
        program = "import runpy; runpy.run_module('model.numerics.known_answer', None, '__main__')"
        assert run(program).stdout == f"{known_answer.ANSWER} as everywhere\n"
        changed = run(program, OPENBLAS_CORETYPE="Nehalem").stdout
        assert changed.endswith(f" and not {known_answer.ANSWER}\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("flags\t: fpu fma sse avx avx2\n", None),
        ("flags\t: fpu fma sse avx\n", "this processor has no avx2"),
        ("flags\t: fpu sse4_2\n", "this processor has no avx2 and no fma"),
        ("Features\t: fp asimd\n", "this processor is no x86-64 with AVX2"),
        (None, "this processor is no x86-64 with AVX2"),
    ],
)
def test_a_processor_without_what_portable_kernels_need(tmp_path, monkeypatch, text, reason):
    listed = tmp_path / "cpuinfo"
    if text is not None:
        listed.write_text(f"processor : 0\n{text}")
    monkeypatch.setattr(processor, "_LISTED", listed)
    assert processor.lacks() == reason
    line = processor.warning()
    assert line is None if reason is None else f"portable, and {reason}: figures" in line


def test_the_seal_asks_for_the_same_flags():
    assert list(processor.NEEDED) == SETTINGS.variables_need


def test_the_processor_is_asked_without_torch():
    done = run(
        "import sys, model.numerics.processor as p; p.warning(); "
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    assert done.stdout == "set()\n", done.stderr


def test_native_kernels_have_their_threads_and_the_processors_name(monkeypatch):
    before = torch.get_num_threads()
    try:
        numerics = set_numerics(NumericsParams(kernels="native", threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
        torch.use_deterministic_algorithms(False)
    assert (numerics.portable, numerics.threads, numerics.side_by_side.threads) == (False, 2, 1)
    assert torch.backends.cpu.get_cpu_capability() in hardware.machine(torch.device("cpu"))


@pytest.mark.parametrize(
    ("kernels", "threads", "message"),
    [
        ("portable", 2, r"threads \(2\) must be null with portable kernels"),
        ("native", None, "threads must be a number with native kernels"),
        ("native", 0, "greater than 0"),
        ("mkl", None, "portable"),
    ],
)
def test_kernels_and_threads_agree(kernels, threads, message):
    with pytest.raises(ValidationError, match=message):
        NumericsParams(kernels=kernels, threads=threads)


@pytest.mark.parametrize("value", ["0", "-1", "two", "", "1.5", "²"])
def test_a_share_that_is_no_number_of_threads_is_refused(monkeypatch, value):
    monkeypatch.setenv("PIPELINE_THREADS", value)
    with pytest.raises(PipelineError, match=r"^PIPELINE_THREADS is .*: set it to a whole number"):
        cores()


def test_a_process_takes_its_share_or_the_cores_it_may_use(monkeypatch):
    monkeypatch.setenv("PIPELINE_THREADS", "3")
    assert cores() == 3
    monkeypatch.delenv("PIPELINE_THREADS")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 4, 5, 7}, raising=False)
    assert cores() == 4
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert cores() == 6


def test_things_side_by_side_keep_their_order_and_have_one_thread_each():
    for threads in (1, 3):
        side_by_side = SideBySide(threads)
        assert side_by_side.map(lambda n: n * n, range(20)) == [n * n for n in range(20)]
        with pytest.raises(ZeroDivisionError):
            side_by_side.map(lambda n: 1 / n, [2, 0, 1])
    assert set(SideBySide(3).map(lambda _: torch.get_num_threads(), range(6))) == {1}


def test_the_variables_are_those_that_portable_kernels_name():
    assert VARIABLES == {
        "ATEN_CPU_CAPABILITY": "avx2",
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
        "OPENBLAS_CORETYPE": "Haswell",
        "OPENBLAS_NUM_THREADS": "1",
    }
