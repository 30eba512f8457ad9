"""A stage whose section of params.yaml asks for several processes becomes what starts them.

`processes: P` above 1 is torchrun with P processes on this machine. `nodes: N` above 1 is Slurm's srun, which runs the
stage's own command once on every node of the allocation, and each of those is torchrun with P processes. Node 0 is the one
that dvc runs on and has rank 0, the only one that writes: dvc finds the outputs on the machine that made them, whatever a
shared file system shows others late. (torchrun's c10d rendezvous gives rank 0 to the first host name in alphabetical order,
where node10 is before node9; the static one gives it to node 0.)
Every process ends with the one that started it: dvc, srun or torchrun. (Started by hand, a stage of one process does not: the
terminal may be closed.)
"""

import os
import shlex
import shutil
import signal
import socket
import sys
from pathlib import Path

from pipeline.declared.dvc_yaml import PARAMS, Instance, load_yaml
from pipeline.declared.file_trees import WorkingTree
from pipeline.seal.parent_death import end_with_parent

_RENDEZVOUS = "PIPELINE_RENDEZVOUS"  # HOST:PORT; set by whoever knows that what is chosen here does not suit the network
_NODE_OF = "PIPELINE_NODE_OF"  # nodes, processes and rendezvous; srun passes it to the nodes
_TORCHRUN = "PIPELINE_TORCHRUN"  # torchrun's process id, for those it starts
_DVC = "DVC_STAGE"  # dvc says it to what it starts
_ANSWERED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")  # by torchrun, if it is not said otherwise
_OF_A_PROCESS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID")


def start_processes(root: Path, instance: Instance) -> bool:
    """Become srun or torchrun where `instance` asks for several processes and this is none of them; return whether it is one.

    A stage of one process forgets what a cluster's scheduler has put into the environment about others. Exits where the
    nodes cannot be had, and where params.yaml has come to ask for other processes than were started.
    """
    nodes, processes = (_asked(root, instance, key) for key in ("nodes", "processes"))
    if _TORCHRUN in os.environ:
        _end_with_torchrun(instance)
        _require_unchanged(instance, os.environ.get("WORLD_SIZE"), str(nodes * processes))
        return True
    if os.environ.get("WORLD_SIZE") == str(nodes * processes) != "1" and all(
        name in os.environ for name in _OF_A_PROCESS
    ):
        return True  # of a torchrun that was started by hand
    for name in _OF_A_PROCESS:
        os.environ.pop(name, None)
    if _NODE_OF in os.environ:
        shape, rendezvous = os.environ.pop(_NODE_OF).split()
        _require_unchanged(instance, shape, f"{nodes}x{processes}")
        # srun sees to the end of what it has started on other machines.
        _become_torchrun(instance, processes, _on_node(nodes, rendezvous))
    if nodes > 1:
        _require_allocation(instance, nodes)
        _end_with_the_caller()
        _become_srun(instance, nodes, processes)
    if processes > 1:
        _end_with_the_caller()
        _become_torchrun(instance, processes, ["--standalone"])
    if (
        _DVC in os.environ
    ):  # what a killed dvc leaves running nobody would record, and the next run would have to wait for
        _end_with_the_caller()
    return False


def _asked(root: Path, instance: Instance, key: str) -> int:
    """Return what params.yaml says, and 1 where it says nothing that can be understood: the stage will."""
    if instance.stage not in instance.params.get(PARAMS, ()):
        return 1
    params = load_yaml(WorkingTree(root).read(PARAMS), PARAMS)
    section = params.get(instance.stage) if isinstance(params, dict) else None
    number = section.get(key) if isinstance(section, dict) else None
    return number if isinstance(number, int) and number > 0 else 1


def _require_unchanged(instance: Instance, started: str | None, asked: str) -> None:
    # To start what is asked for now would have each of the processes start as many again.
    if started != asked:
        sys.exit(
            f"error: {instance.name}: started for {started} processes, and {PARAMS} now asks for {asked} "
            f"({instance.stage}.processes and nodes); run it again"
        )


def allocation_problem(nodes: int) -> str | None:
    """Return why srun cannot start a process on each of `nodes` nodes from here; None where it can."""
    allocated = os.environ.get("SLURM_JOB_NUM_NODES")
    if "SLURM_JOB_ID" not in os.environ:
        return "this is no Slurm allocation (no SLURM_JOB_ID)"
    if "SLURMD_NODENAME" not in os.environ or os.environ.get("SLURM_NODEID", "0") != "0":
        return "this is not the first node of the allocation, where a script given to sbatch runs"
    if allocated != str(nodes):
        return f"the allocation has {allocated} (SLURM_JOB_NUM_NODES)"
    return "there is no srun on PATH" if shutil.which("srun") is None else None


def _require_allocation(instance: Instance, nodes: int) -> None:
    problem = allocation_problem(nodes)
    if problem is None:
        return
    sys.exit(
        f"error: {instance.name}: {instance.stage}.nodes of {PARAMS} is {nodes}, and {problem}; "
        f"submit it with sbatch as docs/distributed.md shows, or set nodes to 1"
    )


def _become_srun(instance: Instance, nodes: int, processes: int) -> None:
    with socket.create_server(("", 0)) as server:
        free_port = server.getsockname()[1]
    rendezvous = os.environ.get(_RENDEZVOUS) or f"{os.environ['SLURMD_NODENAME']}:{free_port}"
    os.environ[_NODE_OF] = f"{nodes}x{processes} {rendezvous}"
    options = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    # One task is all of a node's processes, so it is not to be bound to a task's share of the cores.
    options += ["--kill-on-bad-exit=1", "--quit-on-interrupt", "--cpu-bind=none"]
    _become(["srun", *options, sys.executable, *_arguments(instance)])


def _on_node(nodes: int, rendezvous: str) -> list[str]:
    job, node = os.environ["SLURM_JOB_ID"], os.environ["SLURM_NODEID"]
    meeting = ["--rdzv-backend=static", f"--rdzv-endpoint={rendezvous}", f"--rdzv-id={job}"]
    return [f"--nnodes={nodes}", f"--node-rank={node}", *meeting]


def _become_torchrun(instance: Instance, processes: int, options: list[str]) -> None:
    os.environ[_TORCHRUN] = str(os.getpid())  # exec keeps it
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # torchrun warns where it has to choose; the seal takes it away again
    # It answers SIGHUP and SIGINT also where nohup or a shell's background has them ignored.
    answered = [
        name for name in _ANSWERED if signal.getsignal(signal.Signals[name]) != signal.SIG_IGN
    ]
    options = [*options, f"--signals-to-handle={','.join(answered)}"]
    # -P: not the working directory's `torch`. What it starts are stages, each of which begins in pipeline/seal/start.py.
    launcher = [
        sys.executable,
        "-P",
        "-s",
        "-m",
        "torch.distributed.run",
        *options,
        f"--nproc-per-node={processes}",
    ]
    _become([*launcher, *_arguments(instance)])


def _arguments(instance: Instance) -> list[str]:
    return shlex.split(instance.command)[1:]


def _become(command: list[str]) -> None:
    sys.stdout.flush()
    os.execvp(command[0], command)


def _end_with_the_caller() -> None:
    # Both answer SIGTERM by ending what they have started.
    end_with_parent(signal.SIGTERM, os.getppid())


def _end_with_torchrun(instance: Instance) -> None:
    torchrun = os.environ[_TORCHRUN]
    if torchrun != str(os.getppid()):
        sys.exit(
            f"error: {instance.name}: the torchrun that started it, process {torchrun}, has ended; run it again"
        )
    end_with_parent(signal.SIGKILL, int(torchrun))  # it was killed, or it would have ended us
