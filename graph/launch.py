"""A stage whose section of params.yaml has `processes: N` runs as N processes, which torchrun starts on this machine."""

import os
import shlex
import sys
from pathlib import Path

from graph.instances import PARAMS, Instance, load_yaml
from graph.tree import WorkingTree

_OF_A_PROCESS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID")


def start_processes(root: Path, instance: Instance) -> bool:
    """Become torchrun where `instance` asks for several processes and this is none of them; return whether it is one.

    A stage of one process forgets what a cluster's scheduler has put into the environment about others.
    """
    processes = _processes(root, instance)
    if processes > 1 and os.environ.get("WORLD_SIZE") == str(processes) and all(name in os.environ for name in _OF_A_PROCESS):
        return True
    for name in _OF_A_PROCESS:
        os.environ.pop(name, None)
    if processes > 1:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun warns where it has to choose; the seal takes it away again
        _, *module = shlex.split(instance.command)
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        sys.stdout.flush()
        os.execv(sys.executable, [*launcher, *module])
    return False


def _processes(root: Path, instance: Instance) -> int:
    """Return what params.yaml says, and 1 where it says nothing that can be understood: the stage will."""
    if instance.stage not in instance.params.get(PARAMS, ()):
        return 1
    params = load_yaml(WorkingTree(root).read(PARAMS))
    section = params.get(instance.stage) if isinstance(params, dict) else None
    processes = section.get("processes") if isinstance(section, dict) else None
    return processes if isinstance(processes, int) else 1
