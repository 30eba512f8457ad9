"""A processor that says it has AMX and dies of it: a product in bfloat16 has to come out all the same."""

import os
import subprocess
import sys

import pytest
from conftest import REPOSITORY

TRY = """
import os, signal, torch
from model.torch_settings import avoid_broken_amx
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


@pytest.mark.parametrize(
    ("amx", "product", "limit"), [(True, DIES, LESS), (True, FAILS, LESS), (True, WORKS, "None"), (False, DIES, "None")]
)
def test_onednn_is_limited_only_where_amx_is_said_to_be_there_and_kills(amx, product, limit):
    program = TRY.format(amx=amx, product=product).rpartition("print(torch")[0]
    assert run(program) == [limit]


def test_a_product_in_bfloat16_comes_out_on_any_processor():
    program = TRY.format(amx="torch.cpu.get_capabilities().get('amx_tile', False)", product="")
    assert run(program)[1] == str(float(64**3))


def run(program: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if name != "ONEDNN_MAX_CPU_ISA"}
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr}"
    return done.stdout.split()
