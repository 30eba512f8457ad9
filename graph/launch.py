"""A stage whose section of params.yaml has `processes: N` runs as N processes, which torchrun starts on this machine."""

import os
import shlex
import sys
from pathlib import Path

from graph.instances import PARAMS, Instance, load_yaml
from graph.tree import WorkingTree


def start_processes(root: Path, instance: Instance) -> None:
    """Become torchrun where `instance` asks for several processes and this is not one of them; otherwise return."""
    if "RANK" in os.environ or instance.stage not in instance.params.get(PARAMS, ()):
        return
    section = load_yaml(WorkingTree(root).read(PARAMS)).get(instance.stage)
    processes = section.get("processes") if isinstance(section, dict) else None
    if not isinstance(processes, int) or processes < 2:
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torchrun warns where it has to choose; the seal takes it away again
    _, *module = shlex.split(instance.command)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    sys.stdout.flush()
    os.execv(sys.executable, [*launcher, *module])
