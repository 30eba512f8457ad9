"""Re-exec a stage under srun or torchrun if its section of params.yaml asks for several processes.

`processes: P` above 1 starts torchrun with P processes on this machine:

    python -m stages.NAME  ─exec→  torchrun  ─starts→  P × python -m stages.NAME, each sealed

`nodes: N` above 1 starts Slurm's srun, which runs the stage's command once on each node:

    python -m stages.NAME  ─exec→  srun  ─on each node→  python -m stages.NAME  ─exec→  torchrun …

Variables of the environment tell this module where in the chain it is (PIPELINE_NODE_OF below
srun, PIPELINE_TORCHRUN below torchrun).

dvc runs on node 0, which has rank 0, and only rank 0 writes. So dvc finds the outputs on the
machine that wrote them, even if a shared file system is slow to show them elsewhere. torchrun's
c10d rendezvous would give rank 0 to the first host name in alphabetical order, where node10 is
before node9; the static rendezvous gives it to node 0.

Every process ends with the one that started it: dvc, srun or torchrun. The exception is a stage of
one process that a person started by hand: its terminal may be closed.
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

# HOST:PORT. A person may set it if the default does not suit the network.
_RENDEZVOUS = "PIPELINE_RENDEZVOUS"
# Nodes, processes and rendezvous; srun passes it to the nodes.
_NODE_OF = "PIPELINE_NODE_OF"
# torchrun's process id, for the processes that it starts.
_TORCHRUN = "PIPELINE_TORCHRUN"
# dvc sets this for the stages that it starts.
_DVC = "DVC_STAGE"
# The signals that torchrun handles by default.
_ANSWERED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
_OF_A_PROCESS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID")


def start_processes(root: Path, instance: Instance) -> bool:
    """Re-exec under srun or torchrun if needed. Return True in a worker process.

    In a stage of one process, deletes a cluster scheduler's variables about other processes. Exits
    if the nodes are not available, or if params.yaml now asks for another number of processes than
    were started.
    """
    nodes, processes = (_asked(root, instance, key) for key in ("nodes", "processes"))
    if _TORCHRUN in os.environ:
        _end_with_torchrun(instance)
        _require_unchanged(instance, os.environ.get("WORLD_SIZE"), str(nodes * processes))
        return True
    if os.environ.get("WORLD_SIZE") == str(nodes * processes) != "1" and all(
        name in os.environ for name in _OF_A_PROCESS
    ):
        return True  # a person has started torchrun
    for name in _OF_A_PROCESS:
        os.environ.pop(name, None)
    if _NODE_OF in os.environ:
        shape, rendezvous = os.environ.pop(_NODE_OF).split()
        _require_unchanged(instance, shape, f"{nodes}x{processes}")
        # No _end_with_the_caller: srun ends what it has started on each node.
        _become_torchrun(instance, processes, _on_node(nodes, rendezvous))
    if nodes > 1:
        _require_allocation(instance, nodes)
        _end_with_the_caller()
        _become_srun(instance, nodes, processes)
    if processes > 1:
        _end_with_the_caller()
        _become_torchrun(instance, processes, ["--standalone"])
    # If dvc is killed, its stage is of no use: the result is not recorded, and the next run would
    # have to wait for its lock.
    if _DVC in os.environ:
        _end_with_the_caller()
    return False


def _asked(root: Path, instance: Instance, key: str) -> int:
    """Return the section's `key` in params.yaml; 1 if it is missing or invalid.

    The stage itself reports an invalid value.
    """
    if instance.stage not in instance.params.get(PARAMS, ()):
        return 1
    params = load_yaml(WorkingTree(root).read(PARAMS), PARAMS)
    section = params.get(instance.stage) if isinstance(params, dict) else None
    number = section.get(key) if isinstance(section, dict) else None
    return number if isinstance(number, int) and number > 0 else 1


def _require_unchanged(instance: Instance, started: str | None, asked: str) -> None:
    # Each of these processes would start the new number of processes again.
    if started != asked:
        sys.exit(
            f"error: {instance.name}: started for {started} processes, and {PARAMS} now asks for "
            f"{asked} ({instance.stage}.processes and nodes); run it again"
        )


def allocation_problem(nodes: int) -> str | None:
    """Return why srun cannot start a process on each of `nodes` nodes from here, or None."""
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
        "submit it with sbatch as docs/operations.md shows, or set nodes to 1"
    )


def _become_srun(instance: Instance, nodes: int, processes: int) -> None:
    with socket.create_server(("", 0)) as server:
        free_port = server.getsockname()[1]
    rendezvous = os.environ.get(_RENDEZVOUS) or f"{os.environ['SLURMD_NODENAME']}:{free_port}"
    os.environ[_NODE_OF] = f"{nodes}x{processes} {rendezvous}"
    options = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    # One srun task holds all processes of a node, so it must not be bound to one task's cores.
    options += ["--kill-on-bad-exit=1", "--quit-on-interrupt", "--cpu-bind=none"]
    _become(["srun", *options, sys.executable, *_arguments(instance)])


def _on_node(nodes: int, rendezvous: str) -> list[str]:
    job, node = os.environ["SLURM_JOB_ID"], os.environ["SLURM_NODEID"]
    meeting = ["--rdzv-backend=static", f"--rdzv-endpoint={rendezvous}", f"--rdzv-id={job}"]
    return [f"--nnodes={nodes}", f"--node-rank={node}", *meeting]


def _become_torchrun(instance: Instance, processes: int, options: list[str]) -> None:
    # exec keeps the process id, so this is torchrun's.
    os.environ[_TORCHRUN] = str(os.getpid())
    # Unset, torchrun would choose a value and print a warning. The seal deletes it in each stage.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # torchrun would handle SIGHUP and SIGINT even if nohup or a shell's background ignores them.
    answered = [
        name for name in _ANSWERED if signal.getsignal(signal.Signals[name]) != signal.SIG_IGN
    ]
    options = [*options, f"--signals-to-handle={','.join(answered)}"]
    # -P: do not import a `torch` of the working directory.
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
    # srun and torchrun end their processes on SIGTERM.
    end_with_parent(signal.SIGTERM, os.getppid())


def _end_with_torchrun(instance: Instance) -> None:
    torchrun = os.environ[_TORCHRUN]
    if torchrun != str(os.getppid()):
        sys.exit(
            f"error: {instance.name}: the torchrun that started it, process {torchrun}, has ended; "
            "run it again"
        )
    # torchrun ends its processes itself unless it is killed.
    end_with_parent(signal.SIGKILL, int(torchrun))
