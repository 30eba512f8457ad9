"""Gather every run's figures into learning curves: data for `dvc plots`, PNGs, and the results table.

Reads losses/, sft_losses/ and metrics/ of the runs that params.yaml names. Writes plots/*.csv, plots/figures and
plots/results.md.
Costs a few seconds at any size.
"""

from pathlib import Path

from model.arithmetic_table import arithmetic_table
from model.curves import (
    CHARTS,
    Curves,
    chart_csv,
    evaluation_points,
    fine_tuning_points,
    loss_points,
    refuse_same_weights,
    results_table,
)
from model.data_table import data_table
from model.errors import PipelineError, run_stage
from model.figures import draw_curves, draw_training
from model.files import atomic_directory, atomic_file
from model.post_training import post_training_table
from model.section import read_section

METRICS = Path("metrics")
LOSSES = Path("losses")
SFT_LOSSES = Path("sft_losses")
PLOTS = Path("plots")


def main() -> None:
    conditions = read_section("conditions", list[str])
    seeds = read_section("seeds", list[int])
    steps = read_section("pretrain.checkpoint_steps", list[int])
    refuse_leftovers(conditions, seeds, steps)
    runs = [METRICS / condition / f"seed_{seed}" / f"step_{step}" for condition in conditions for seed in seeds for step in steps]
    refuse_same_weights([run / "parity.json" for run in runs])
    points: Curves = {chart.name: [] for chart in CHARTS}
    at_tokens: dict[int, int] = {}
    for condition in conditions:
        for seed in seeds:
            run = Path(condition) / f"seed_{seed}"
            losses, progress = loss_points(LOSSES / run, condition, seed)
            for name, curve in losses.items():
                points[name] += curve
            points["sft_loss"] += fine_tuning_points(SFT_LOSSES / run, condition, seed)
            for step in steps:
                at_tokens[step] = progress[step].tokens
                path = METRICS / run / f"step_{step}" / "evaluation.json"
                for name, point in evaluation_points(path, condition, seed, progress[step]).items():
                    points[name].append(point)

    for chart in CHARTS:
        with atomic_file(PLOTS / f"{chart.name}.csv") as file:
            file.write(chart_csv(chart, points[chart.name]))
    with atomic_directory(PLOTS / "figures") as figures:
        draw_curves(figures / "combined.png", points, conditions, conditions, "Learning curves, " + " against ".join(conditions))
        draw_training(figures / "training.png", points, conditions, "Training, " + " against ".join(conditions))
        for condition in conditions:
            draw_curves(figures / f"{condition}.png", points, conditions, [condition], f"Learning curves, {condition}")
    tables = [data_table({condition: METRICS / condition / "tokenize.json" for condition in conditions})]
    tables += [results_table(chart, points[chart.name], conditions, at_tokens) for chart in CHARTS if chart.table_title]
    results = {(condition, seed): METRICS / condition / f"seed_{seed}" for condition in conditions for seed in seeds}
    tables.append(post_training_table(results, steps[-1], conditions, seeds))
    for models, words in (("exports", "final export"), ("sft", "fine-tuned")):
        probes = {run: folder / "probes" / f"{models}.json" for run, folder in results.items()}
        tables.append(arithmetic_table(words, probes, conditions, seeds))
    with atomic_file(PLOTS / "results.md") as file:
        file.write("\n".join(tables).encode())
    print(f"curves: {len(conditions)} conditions, {len(seeds)} seeds, {len(steps)} checkpoints")


def refuse_leftovers(conditions: list[str], seeds: list[int], steps: list[int]) -> None:
    """Stop at results of runs that params.yaml no longer names: they would be committed, and hashed into dvc.lock."""
    runs = {Path(condition) / f"seed_{seed}" for condition in conditions for seed in seeds}
    found = [run for root in (LOSSES, SFT_LOSSES, METRICS) for run in sorted(root.glob("*/seed_*"))]
    leftovers = [run for run in found if Path(*run.parts[1:]) not in runs]
    kept_steps = {f"step_{step}" for step in steps}
    leftovers += [
        path for path in sorted(METRICS.glob("*/seed_*/step_*")) if path.name not in kept_steps and path.parent not in leftovers
    ]
    if leftovers:
        names = " ".join(str(path) for path in leftovers)
        raise PipelineError(f"curves: params.yaml does not name these runs; remove their results: rm -r {names}")


if __name__ == "__main__":
    run_stage(main)
