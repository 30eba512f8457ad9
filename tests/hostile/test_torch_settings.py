"""A processor that reports AMX and crashes in it: a product in bfloat16 has to come out all the
same.
"""

import os
import subprocess
import sys

import pytest
from repository import REPOSITORY

pytestmark = pytest.mark.slow(
    "each processor is a process that imports torch and may die of it", minutes=0.2
)

TRY = """
import os, signal, torch
from model.runtime.torch_setup import avoid_broken_amx
amx = {amx}
torch.cpu.get_capabilities = lambda: {{"amx_tile": amx}}
avoid_broken_amx({product})
print(os.environ.get("ONEDNN_MAX_CPU_ISA"))
print(torch.mm(*torch.ones(2, 64, 64, dtype=torch.bfloat16)).sum().item())
"""
LESS = "AVX512_CORE_FP16"
DIES = "lambda: os.kill(os.getpid(), signal.SIGILL)"
WORKS = "lambda: None"
FAILS = "lambda: 1 / 0"
KILLED = "lambda: os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    ("amx", "product", "limit"),
    [(True, DIES, LESS), (True, WORKS, "None"), (False, DIES, "None"), (False, FAILS, "None")],
)
def test_onednn_is_limited_only_where_amx_is_said_to_be_there_and_kills(amx, product, limit):
    program = TRY.format(amx=amx, product=product).rpartition("print(torch")[0]
    done = run(program)
    assert done.stdout.split() == [limit]
    assert ("crashes in it" in done.stderr) == (limit == LESS)


@pytest.mark.parametrize(
    ("product", "said"), [(FAILS, "ended with 1;"), (KILLED, "ended with -9;")]
)
def test_what_says_nothing_of_the_processor_stops_the_stage(product, said):
    done = run(TRY.format(amx=True, product=product))
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[-1]
    assert ("ZeroDivisionError" in done.stderr) == (
        product == FAILS
    )  # what went wrong is to be seen


def test_a_product_in_bfloat16_comes_out_on_any_processor():
    program = TRY.format(amx="torch.cpu.get_capabilities().get('amx_tile', False)", product="")
    assert run(program).stdout.split()[1] == str(float(64**3))


def run(program: str) -> subprocess.CompletedProcess:
    environment = {
        name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"
    }
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
    )
