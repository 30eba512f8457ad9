"""A stage of several processes, on this machine and on the nodes of a Slurm allocation, from
outside: see pipeline/seal/several_processes.py.

Slurm is a script here: it starts what it is given once for each node, all on this machine.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from repository import REPOSITORY
from sealed_project import DVC_YAML, STAGE, project, signals  # noqa: F401

COMMAND = [sys.executable, "-m", "stages.probe", "a"]
# The last node first, so that rank 0 does not come to node 0 by itself. As --kill-on-bad-exit has
# it, one failure ends all.
SRUN = """#!/usr/bin/env bash
echo "$*" >"$(dirname "$0")/arguments"
{before}
while [[ $1 == --* ]]; do
    [[ $1 == --nodes=* ]] && nodes=${{1#*=}}
    shift
done
trap 'kill $(jobs -p); wait; exit 143' TERM
for ((node = nodes - 1; node >= 0; node--)); do
    SLURM_NODEID=$node "$@" &
    sleep 0.2
done
for ((node = 0; node < nodes; node++)); do
    wait -n || {{ status=$?; kill $(jobs -p); wait; exit $status; }}
done
"""
JOIN = """
    import numpy as np
    from common.errors import PipelineError
    from model.runtime.distributed import joined_processes
    assert os.environ["NCCL_SOCKET_IFNAME"] == "none"
    assert not {"TORCH_NCCL_BLOCKING_WAIT", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "OMP_NUM_THREADS"} & set(os.environ)
    with joined_processes() as processes:
        if processes.rank == FAILS:
            raise PipelineError("the tokens of rank 1 are gone")
        total = processes.total(np.array([10**processes.rank]))
        if processes.rank == 0:
            print("total", *total, "of", processes.count)
            Path("data/.out.txt.partial").write_text(f"written on node {os.environ['SLURM_NODEID']}")
            os.replace("data/.out.txt.partial", "data/out.txt")
"""  # noqa: E501
# Each says which process it is, and which one started it: see the fixture `signals`.
WAIT = """
    import time
    Path(SIGNALS, os.environ["RANK"]).write_text(f"{os.getpid()} {os.getppid()}")
    time.sleep(600)
"""


@pytest.fixture
def several(project) -> Path:
    """A project whose stage reads the numbers of nodes and processes in its own section."""
    text = DVC_YAML.replace(
        "common/sections.py,", "common/sections.py, model/runtime/distributed.py,"
    )
    (project / "dvc.yaml").write_text(
        text.replace("[wanted, {libraries.yaml: [probe]}]", "[probe]")
    )
    shutil.copy(REPOSITORY / "model/runtime/distributed.py", project / "model/runtime")
    return project


def write(project: Path, body: str, nodes: object = 1, processes: object = 1) -> None:
    (project / "params.yaml").write_text(
        f"names: [a, b]\nprobe: {{nodes: {nodes}, processes: {processes}}}\n"
    )
    wanted = (
        'read_section("probe", dict); open("data/declared.txt"); os.listdir("data/folder");'
        ' open("model/runtime/distributed.py")'
    )
    (project / "stages/probe.py").write_text(STAGE.format(wanted=wanted, body=body.strip()))


def allocation(project: Path, before: str = "", **changes: str | None) -> dict[str, str]:
    """Return the environment of a batch script whose srun runs the shell's line `before` first;
    None takes a name away.
    """
    srun = project.parent / "slurm/srun"
    srun.parent.mkdir(exist_ok=True)
    srun.write_text(SRUN.format(before=before))
    srun.chmod(0o755)
    slurm = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NODEID": "0",
        "SLURMD_NODENAME": "localhost",
    }
    environment = {**os.environ, **slurm, "PATH": f"{srun.parent}:{os.environ['PATH']}", **changes}
    return {name: value for name, value in environment.items() if value is not None}


def run(project: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    return subprocess.run(COMMAND, cwd=project, capture_output=True, text=True, env=environment)


def last(done: subprocess.CompletedProcess) -> str:
    assert done.returncode != 0, done.stdout + done.stderr
    return done.stderr.strip().splitlines()[-1]


def test_a_stage_on_two_nodes_joins_and_node_0_writes(several):
    """What a scheduler and a shell have left in the environment about processes and libraries is in
    nobody's way.
    """
    write(several, JOIN.replace("FAILS", "None"), nodes=2)
    left = {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "7",
        "OMP_NUM_THREADS": "3",
        "TORCH_NCCL_BLOCKING_WAIT": "1",
    }
    done = run(several, allocation(several, NCCL_SOCKET_IFNAME="none", **left))
    assert done.stdout == "total 11 of 2\n", done.stderr
    assert done.returncode == 0
    assert (several / "data/out.txt").read_text() == "written on node 0"
    assert (
        (several.parent / "slurm/arguments").read_text()
        == f"--nodes=2 --ntasks=2 --ntasks-per-node=1 --kill-on-bad-exit=1 --quit-on-interrupt --cpu-bind=none {sys.executable} -m stages.probe a\n"  # noqa: E501
    )


def test_an_error_on_another_node_ends_the_stage_and_is_shown(several):
    write(several, JOIN.replace("FAILS", "1"), nodes=2)
    done = run(several, allocation(several, NCCL_SOCKET_IFNAME="none"))
    assert done.returncode == 1
    assert "error: the tokens of rank 1 are gone" in done.stderr.splitlines()
    assert not (several / "data/out.txt").exists()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"SLURM_JOB_ID": None}, "this is no Slurm allocation (no SLURM_JOB_ID)"),
        ({"PATH": "/nowhere"}, "there is no srun on PATH"),
        ({"SLURM_JOB_NUM_NODES": "3"}, "the allocation has 3 (SLURM_JOB_NUM_NODES)"),
        (
            {"SLURMD_NODENAME": None},
            "this is not the first node of the allocation, where a script given to sbatch runs",
        ),
        (
            {"SLURM_NODEID": "1"},
            "this is not the first node of the allocation, where a script given to sbatch runs",
        ),
    ],
)
def test_nodes_that_cannot_be_had_are_one_line(several, changes, problem):
    write(several, "pass", nodes=2)
    done = run(several, allocation(several, **changes))
    assert done.returncode == 1
    assert (
        done.stderr == f"error: probe@a: probe.nodes of params.yaml is 2, and {problem}; "
        "submit it with sbatch as docs/operations.md shows, or set nodes to 1\n"
    )


def test_a_stage_of_one_node_asks_nothing_of_slurm(several):
    write(
        several, "print(sorted(name for name in os.environ if 'RANK' in name or 'WORLD' in name))"
    )
    done = run(
        several,
        allocation(several, RANK="1", LOCAL_RANK="1", WORLD_SIZE="2", TORCHELASTIC_RUN_ID="x"),
    )
    assert done.stdout == "[]\n", done.stderr
    assert not (several.parent / "slurm/arguments").exists()


@pytest.mark.parametrize("of_this_job", [False, True])
def test_a_process_of_a_job_of_another_size_does_not_run(several, of_this_job):
    """It would start as many processes as params.yaml asks for, and so would the others of its
    job.
    """
    write(several, "print('ran')", processes=2)
    job = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2" if of_this_job else "3",
        "TORCHELASTIC_RUN_ID": "x",
    }
    done = run(several, {**os.environ, **job, "PIPELINE_TORCHRUN": str(os.getpid())})
    if of_this_job:
        assert (done.stdout, done.returncode) == ("ran\n", 0), done.stderr
    else:
        assert (
            last(done) == "error: probe@a: started for 3 processes, and params.yaml now asks for 2"
            " (probe.processes and nodes); run it again"
        )


def test_nodes_started_for_another_number_of_processes_do_not_run(several):
    write(several, "print('ran')", nodes=2)
    done = run(
        several, allocation(several, before="sed -i 's/processes: 1/processes: 2/' params.yaml")
    )
    assert done.stdout == ""
    assert (
        "error: probe@a: started for 2x1 processes, and params.yaml now asks for 2x2"
        " (probe.processes and nodes); run it again" in done.stderr.splitlines()
    )


def test_a_process_whose_torchrun_has_ended_does_not_run(several):
    write(several, "print('ran')", processes=2)
    job = {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "x",
        "PIPELINE_TORCHRUN": "1",
    }
    assert (
        last(run(several, {**os.environ, **job}))
        == "error: probe@a: the torchrun that started it, process 1, has ended; run it again"
    )


def runs(process: int) -> bool:
    """Return whether `process` is there, and not only its entry in the table."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(holds, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux ends a process with its parent"
)
@pytest.mark.parametrize(("nodes", "processes"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("killed", ["caller", "torchrun"])
def test_a_kill_leaves_no_process_behind(several, signals, nodes, processes, killed):
    write(several, WAIT.replace("SIGNALS", repr(str(signals))), nodes, processes)
    caller = [
        sys.executable,
        "-c",
        f"import subprocess\nraise SystemExit(subprocess.run({COMMAND!r}).returncode)",
    ]
    environment = allocation(several)
    with subprocess.Popen(caller, cwd=several, stderr=subprocess.DEVNULL, env=environment) as dvc:
        try:
            wait_until(
                lambda: (
                    len([path for path in signals.iterdir() if path.read_text()]) == 2
                    or dvc.poll() is not None
                )
            )
            started = {
                rank: [int(word) for word in (signals / rank).read_text().split()]
                for rank in ("0", "1")
            }
            os.kill(dvc.pid if killed == "caller" else started["1"][1], signal.SIGKILL)
            wait_until(
                lambda: not any(runs(process) for pair in started.values() for process in pair)
            )
            assert dvc.wait() != 0
        finally:
            dvc.kill()
