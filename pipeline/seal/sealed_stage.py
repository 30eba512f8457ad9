"""The seal around a stage: it may read, write and import only what dvc.yaml declares.

stages/__init__.py calls `seal` before a stage imports anything. From then on:
- A Python audit hook (PEP 578) checks each open, listing, rename, removal and connection that goes
  through Python. It stops the stage with the file's name. It also records which sections of
  params.yaml the stage reads.
- Where the kernel has Landlock, it guards native code (safetensors, pyarrow, tokenizers) and child
  processes too. They cannot open an undeclared file. They can open an output only through its
  temporary sibling (common/files.py).
- First-party modules are compiled from source. A .pyc of the same second and size may be stale.
- The environment has only the variables of pipeline/seal/environment.py. The stage finds only
  modules of Python, of the libraries and of the repository (pipeline/seal/start.py). Its home and
  temporary folder are an empty folder of this process.
- No other process may run the same instance. Several processes may make shares of its pieces
  (common/share.py); they write only to its scratch folder.
- At the end, each dependency must be what it was at the beginning. DVC hashes dependencies after a
  stage has run, so it would record an edit made meanwhile as the result's input.
Only a stage with `network` in its meta may use the network and read files outside the repository.
One exception: processes of one stage talk through TCP, which the kernel cannot limit to this
machine, so native code of such a stage can reach the network. The system's folders and .venv are
not guarded: libraries are declared by version. The seal guards against mistakes, not against an
attacker.

The order in `seal`: read the declaration → start further processes → compare libraries → lock the
instance → clean the environment → fork the witness (input_witness.py) → make temporary files and
the scratch folder → close the kernel's seal → add the audit hook → import from source only. What
needs a file outside the declaration comes before the kernel's seal, which cannot be opened again.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.files import MADE
from common.share import SHARE, Share, share_in
from common.yaml_file import YamlFault
from pipeline.declared.dvc_yaml import (
    PARAMS,
    Instance,
    below_key,
    read_instances,
    read_mapping,
    value_or_none,
    verdicts,
)
from pipeline.declared.faults import FAULTS
from pipeline.declared.file_trees import WorkingTree
from pipeline.declared.library_versions import declared_versions, mismatches, python_mismatch
from pipeline.declared.settings import command, hooks
from pipeline.declared.timings import DURATIONS, with_timings
from pipeline.leftover.withdrawn import outputs_read, refusal
from pipeline.seal.audit_guard import Guard
from pipeline.seal.confinement import confine, import_from_source, make_partials
from pipeline.seal.environment import clean_environment, keys_of_variables, library_variables
from pipeline.seal.fault_messages import set_up_line
from pipeline.seal.scratch_folder import (
    end_children_with_this_process,
    lock_instance,
    make_scratch,
    scratch_of,
)
from pipeline.seal.several_processes import start_processes
from pipeline.terminal.command_lines import instance_of

# DVC copies the repository to here for a queued experiment.
_EXPERIMENTS = "/.dvc/tmp/exps/"


def seal(started_as: list[str]) -> None:
    """Hold this process, `-m stages.NAME …`, to the stage's declaration; exit if it cannot run."""
    root = Path.cwd()
    instance = instance_of(root, started_as)
    distributed = start_processes(root, instance)
    # Of several processes only rank 0 writes.
    writes = not distributed or os.environ["RANK"] == "0"
    if not writes:
        instance = instance._replace(outs=(), tracked=())
    scratch, share = scratch_of(instance), _share(instance)
    if share:
        instance, writes = instance._replace(outs=(), tracked=()), False
    try:
        tree = WorkingTree(root)
        problems = python_mismatch(tree) + mismatches(instance, declared_versions(tree))
    except (OSError, YamlFault) as error:
        problems = [
            f"libraries.yaml cannot be read ({error}); run {command('libraries')}".replace(
                "\n", " "
            )
        ]
    instances = all_instances(root, instance)
    left = _leftovers(root, instances) if writes and not problems else None
    if left and not instance.meta.get("checks_params"):
        problems.append(left)
    if problems:
        sys.exit("\n".join(f"error: {line}" for line in problems))
    duration = None
    if share is None:
        with _faults_told(instance.name):
            (root / DURATIONS).mkdir(parents=True, exist_ok=True)
            duration = os.open(root / DURATIONS / instance.name, os.O_RDWR | os.O_CREAT, 0o666)
    if writes and duration is not None:
        lock_instance(instance.name, root / DURATIONS / instance.name, duration)
        instance = with_timings(instance)
    if writes or share:
        end_children_with_this_process()
    if instance.meta.get("checks_params"):
        _require_machine(root)
    network = bool(instance.meta.get("network"))
    clean_environment(network, distributed, variables_of(root, instance))
    os.environ[MADE] = "\n".join(outputs_read(instance, instances))
    with _faults_told(instance.name):
        guard = Guard(root, instance, scratch, distributed, share, duration, verdicts(instances))
        guard.watch_exit()  # atexit runs what was registered first last
        writable = [
            *make_partials(root, instance),
            *make_scratch(root, instance, scratch, shared=share is not None),
        ]
        guard.confined = confine(root, guard.inputs, writable, network, network or distributed)
    sys.addaudithook(guard.hook())
    guard.watch_sizes()
    if left:
        _refuse_at_the_end(left)
    sys.excepthook = guard.explain
    import_from_source(root)


def _share(instance: Instance) -> Share | None:
    """Return the share that this process makes; None if it runs the whole stage.

    Exits if PIPELINE_SHARE is invalid, or if dvc.yaml does not spread its phase.
    """
    try:
        share = share_in(os.environ)
    except ValueError as error:
        sys.exit(f"error: {instance.name}: {error}")
    phases = instance.meta.get("spreads", ())
    if share and share.phase not in phases:
        sys.exit(
            f"error: {instance.name}: {SHARE} names the phase {share.phase!r}, and meta: spreads "
            f"of dvc.yaml {'has ' + ', '.join(phases) if phases else 'is not there'}; unset it"
        )
    return share


def variables_of(root: Path, instance: Instance) -> dict[str, str]:
    """Return the variables that pyproject.toml sets for this stage."""
    declared = instance.params.get(PARAMS, ())
    keys = [key for key in keys_of_variables() if any(below_key(key, each) for each in declared)]
    params = read_mapping(WorkingTree(root), PARAMS) if keys else {}
    return library_variables({key: value_or_none(params, key) for key in keys})


def _require_machine(root: Path) -> None:
    lines = [line for lacks in hooks("machine") for line in lacks(root)]
    if lines:
        sys.exit("\n".join(f"error: {line}" for line in lines))


def _refuse_at_the_end(line: str) -> None:
    """Report leftover results only after the stage that checks params.yaml has found no fault.

    A misspelt name in params.yaml makes good results look like leftovers; its own error comes
    first.
    """

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pipeline.stage_done":
            sys.exit(f"error: {line}")

    sys.addaudithook(hear)


def all_instances(root: Path, instance: Instance) -> list[Instance]:
    """Return every instance of the graph; only `instance` if params.yaml does not give the lists.

    The stage that checks params.yaml reports the fault.
    """
    try:
        return list(read_instances(WorkingTree(root)).values())
    except FAULTS:
        return [instance]


def _leftovers(root: Path, instances: list[Instance]) -> str | None:
    """Return the line that refuses to run beside leftover results; None if there are none.

    In the copy of the repository that DVC makes for a queued experiment, remove them instead.
    """
    line = refusal(root, instances)
    if line and _EXPERIMENTS in root.as_posix():
        from pipeline.leftover.prune import prune_copy  # it needs this module

        prune_copy(root)
        line = refusal(root, instances)
    return line


@contextmanager
def _faults_told(name: str) -> Iterator[None]:
    """Exit with one line on a full or read-only disk, while Guard.explain is not yet in place."""
    try:
        yield
    except OSError as error:
        sys.exit(set_up_line(error, name))
