"""Results of runs that are no more, where a stage reads whole directories."""

from pathlib import Path

from model.errors import PipelineError

# Where results of runs stand, below CONDITION/seed_S, and some of them there in step_N.
ROOTS = ("scores", "losses", "sft_losses", "metrics")


def refuse_leftovers(stage: str, roots: list[Path], conditions: list[str], seeds: list[int], steps: list[int]) -> None:
    """Stop at results below `roots` of runs that params.yaml no longer names: they would be hashed, and some committed.

    The command that removes them names all ROOTS, since the run's other results are no less in the way of other stages.
    """
    runs = {f"{condition}/seed_{seed}" for condition in conditions for seed in seeds}
    kept = {f"step_{step}" for step in steps}
    found = [run for root in roots for run in sorted(root.glob("*/seed_*"))]
    leftovers = [run for run in found if "/".join(run.parts[-2:]) not in runs]
    leftovers += [path for run in found if run not in leftovers for path in sorted(run.glob("step_*")) if path.name not in kept]
    if leftovers:
        runs_below = dict.fromkeys(path.relative_to(root) for path in leftovers for root in roots if path.is_relative_to(root))
        names = " ".join(f"{root}/{run}" for run in runs_below for root in ROOTS)
        raise PipelineError(f"{stage}: params.yaml does not name these runs; remove their results: rm -rf {names}")
