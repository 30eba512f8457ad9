"""The scorer in a process whose address space is really limited: it goes on with smaller batches,
to the same bytes.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fault_table import pattern, seen
from gpt2_directories import real_items, save_gpt2
from repository import REPOSITORY

from model.data.items import Item
from pipeline.seal.fault_messages import fault_line

pytestmark = [
    pytest.mark.slow("scores in processes whose memory is limited", minutes=0.4),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space"),
]
HALVED, TOO_LARGE = "no memory for a batch of `evaluate`", "no memory for one item of `evaluate`"
# Beyond what the process has taken when its first batch begins: libraries, threads and weights
# differ with machine and day.
SPARE_MEGABYTES, SPARE_FOR_AN_ITEM = 200, 12
LIMITED = """
import resource, runpy, sys
import tools.score, model.scoring.scorer
{change}
pack = model.scoring.scorer.pack

def limited(group):
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + {megabytes} * 2**20,) * 2)
    return pack(group)

model.scoring.scorer.pack = limited
sys.argv = ["score", *sys.argv[1:]]
runpy.run_module("tools.score", run_name="__main__")
"""
NOTHING_IS_CAUGHT = "model.scoring.scorer._is_out_of_memory = lambda error: False"


def score(
    output: Path, *arguments: str, megabytes: int | None = None, change: str = ""
) -> subprocess.CompletedProcess:
    """Score as `python -m tools.score` does, with no more memory than `megabytes` from its first
    batch on.
    """
    code = (
        ["-m", "tools.score"]
        if megabytes is None
        else ["-c", LIMITED.format(megabytes=megabytes, change=change)]
    )
    command = [
        sys.executable,
        *code,
        *arguments,
        "--threads",
        "1",
        "--wordings",
        "reference",
        "--output",
        str(output),
    ]
    # Every thread has stack and arena, which count: as many on a machine of many cores as on one of
    # two.
    few = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **few}, text=True, capture_output=True
    )


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, tokenizer) -> Path:
    return save_gpt2(
        tmp_path_factory.mktemp("gpt2"), tokenizer, layers=1, heads=8, width=32, context=2048
    )


@pytest.fixture(scope="module")
def items(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("items") / "items.jsonl"
    path.write_text("".join(item.model_dump_json() + "\n" for item in real_items(300)))
    return path


def test_a_batch_that_memory_does_not_hold_is_halved_and_the_result_is_the_same(
    gpt2, items, tmp_path
):
    arguments = (str(gpt2), "--items", str(items), "--batch-tokens", "1000000")
    unlimited = score(tmp_path / "unlimited", *arguments)
    assert unlimited.returncode == 0, unlimited.stderr
    assert "out of memory" not in unlimited.stderr
    limited = score(tmp_path / "limited", *arguments, megabytes=SPARE_MEGABYTES)
    assert limited.returncode == 0, limited.stderr
    assert re.search(f"^{seen(HALVED)[0]}$", limited.stderr, flags=re.MULTILINE), limited.stderr
    assert limited.stdout == unlimited.stdout
    for name in ("evaluation.json", "reference.jsonl"):
        assert (tmp_path / "limited" / name).read_bytes() == (
            tmp_path / "unlimited" / name
        ).read_bytes()
    # The fault that the scorer guards against.
    ended = score(
        tmp_path / "ended", *arguments, megabytes=SPARE_MEGABYTES, change=NOTHING_IS_CAUGHT
    )
    assert ended.returncode != 0
    assert not (tmp_path / "ended/evaluation.json").exists()
    assert re.search("can't allocate memory|MemoryError|bad_alloc", ended.stderr), ended.stderr


def test_an_item_that_memory_does_not_hold_is_one_line(gpt2, tmp_path):
    long = Item(
        ind=0,
        activity_label="",
        ctx_a="",
        ctx_b="",
        ctx="word " * 1900,
        endings=["a b", "b c", "c d", "d e"],
        label=0,
        source_id="s",
    )
    path = tmp_path / "items.jsonl"
    path.write_text(long.model_dump_json() + "\n")
    arguments = (str(gpt2), "--items", str(path))
    assert score(tmp_path / "unlimited", *arguments).returncode == 0
    done = score(tmp_path / "limited", *arguments, megabytes=SPARE_FOR_AN_ITEM)
    assert done.returncode == 1
    assert re.fullmatch(seen(TOO_LARGE)[0], done.stderr.strip().splitlines()[-1]), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "limited/evaluation.json").exists()


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (MemoryError(), "no memory elsewhere"),
        (
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory"
            ),
            "no memory elsewhere",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), "no memory elsewhere"),
        (
            RuntimeError(
                "[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing"
                " file data/2"
            ),
            "the disk is full, but numpy or torch hides the cause",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 6784 vs 6676"),
            "the disk is full, but numpy or torch hides the cause",
        ),
        (
            OSError("60209 requested and 55296 written"),
            "the disk is full, but numpy or torch hides the cause",
        ),
    ],
    ids=[
        "Python",
        "torch on a CPU",
        "torch on a GPU",
        "torch writing",
        "torch at the end of a file",
        "numpy writing",
    ],
)
def test_what_libraries_say_of_the_machine_is_told_in_one_line(error, fault):
    assert re.fullmatch(seen(fault, "pretrain@a-1")[0], fault_line(error, "pretrain@a-1"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(2, "No such file"),
        KeyError(28),
    ],
)
def test_what_is_no_fault_of_the_machine_keeps_its_traceback(error):
    assert fault_line(error, "pretrain@a-1") is None


def test_the_patterns_of_the_table_do_not_match_everything():
    assert re.fullmatch(
        pattern("error: STAGE: N bytes of FILE…"), "error: corpus: 12 bytes of a/b and more"
    )
    assert not re.fullmatch(pattern("error: STAGE: N bytes"), "error: corpus: many bytes")
