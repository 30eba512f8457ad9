"""Gather every run's figures into learning curves: data for `dvc plots`, PNGs, and results tables.

Reads losses/, sft_losses/ and metrics/ of the runs that params.yaml names, and
plots/differences.csv. Writes plots/curves, plots/fact_usage.csv, plots/figures, and the tables as
plots/results.md and plots/results.json. Costs a few seconds at any size.
"""

from pathlib import Path

from common.errors import run_stage
from common.files import atomic_directory, write_bytes, write_json
from common.sections import read_section
from model.conditions.effective import twins
from model.curves.all_figures import draw_curves, draw_training
from model.curves.arithmetic_table import arithmetic_table
from model.curves.charts import DIFFERENCES, PAIRED, PARITY, USAGE, Chart, curves_of, task_charts
from model.curves.conditions_table import conditions_table
from model.curves.data_table import data_table
from model.curves.evidence import draw_evidence
from model.curves.fact_usage import Usage, document_usage, run_usage, usage_csv
from model.curves.paired import paired_csv, paired_differences, read_comparisons
from model.curves.parity import parity_point, refuse_same_weights, tolerance_to_show
from model.curves.points import (
    Curves,
    chart_csv,
    evaluation_points,
    fine_tuning_points,
    loss_points,
    results_table,
)
from model.curves.post_training_table import post_training_table
from model.params.tasks import Tasks
from model.results.markdown_table import Table, together
from model.tasks.listing import listed
from model.tasks.table import Task

METRICS = Path("metrics")
LOSSES = Path("losses")
SFT_LOSSES = Path("sft_losses")
PLOTS = Path("plots")


def main() -> None:
    settings = read_section("conditions", dict)
    base = {
        "tokenize": read_section("tokenize", dict),
        "model": read_section("model", dict),
        "pretrain": read_section("pretrain", dict),
        "sft": read_section("sft", dict),
    }
    conditions = list(settings)
    seeds = read_section("seeds", list[int])
    steps = base["pretrain"]["checkpoint_steps"]
    tolerance = tolerance_to_show(read_section("export.parity_tolerance", float))
    # Two checkpoints with the same weights would be one curve counted twice. Twins share their
    # pretraining on purpose.
    refuse_same_weights(
        [
            METRICS / condition / f"seed_{seed}" / f"step_{step}" / "parity.json"
            for condition in conditions
            if condition not in twins(base, settings)
            for seed in seeds
            for step in steps
        ]
    )
    tasks = listed(read_section("tasks", Tasks))
    charts = curves_of(tasks)
    points: Curves = {chart.name: [] for chart in charts}
    usages: list[Usage] = []
    # Tokens trained on up to each checkpoint's step.
    at_tokens: dict[int, int] = {}
    for condition in conditions:
        usages += document_usage(METRICS / condition / "tokenize.json", condition)
        for seed in seeds:
            run = Path(condition) / f"seed_{seed}"
            losses, progress = loss_points(LOSSES / run, condition, seed)
            for name, curve in losses.items():
                points[name] += curve
            points["sft_loss"] += fine_tuning_points(SFT_LOSSES / run, condition, seed)
            usages += run_usage(METRICS / run, condition, seed)
            for step in steps:
                at_tokens[step] = progress[step].tokens
                folder = METRICS / run / f"step_{step}"
                points[PARITY.name].append(
                    parity_point(folder / "parity.json", condition, seed, progress[step])
                )
                for name, point in evaluation_points(
                    folder / "evaluation.json", tasks, condition, seed, progress[step]
                ).items():
                    points[name].append(point)

    comparisons = read_comparisons(PLOTS / DIFFERENCES.file)
    differences = paired_differences(charts, points, conditions, comparisons)
    with atomic_directory(PLOTS / "curves") as output:
        for chart in charts:
            text = chart_csv(chart, points[chart.name], tolerance)
            write_bytes(output / f"{chart.name}.csv", text)
        write_bytes(output / f"{PAIRED.name}.csv", paired_csv(differences))
    write_bytes(PLOTS / USAGE.file, usage_csv(usages))
    with atomic_directory(PLOTS / "figures") as figures:
        draw_curves(
            figures / "combined.png",
            points,
            task_charts(tasks),
            conditions,
            conditions,
            "Learning curves, " + " against ".join(conditions),
            differences,
        )
        draw_training(
            figures / "training.png",
            points,
            conditions,
            "Training, " + " against ".join(conditions),
        )
        for condition in conditions:
            draw_curves(
                figures / f"{condition}.png",
                points,
                task_charts(tasks),
                conditions,
                [condition],
                f"Learning curves, {condition}",
            )
        draw_evidence(figures / "evidence.png", points[PARITY.name], tolerance, usages, conditions)
    tables = [
        *conditions_table(base, settings),
        *results_tables(points, charts, tasks, conditions, seeds, at_tokens),
    ]
    write_bytes(PLOTS / "results.md", "\n".join(table.markdown() for table in tables).encode())
    write_json(PLOTS / "results.json", {"tables": [table.json() for table in tables]})
    print(f"curves: {len(conditions)} conditions, {len(seeds)} seeds, {len(steps)} checkpoints")


def results_tables(
    points: Curves,
    charts: list[Chart],
    tasks: list[Task],
    conditions: list[str],
    seeds: list[int],
    at_tokens: dict[int, int],
) -> list[Table]:
    """Return every table of results; `at_tokens` maps checkpoint steps to tokens trained on."""
    tables = [
        data_table({condition: METRICS / condition / "tokenize.json" for condition in conditions})
    ]
    scored = [
        results_table(chart, points[chart.name], conditions, at_tokens)
        for chart in charts
        if chart.table_title
    ]
    tables += [*scored, together("learning", "What pretraining learns", scored)]
    results = {
        (condition, seed): METRICS / condition / f"seed_{seed}"
        for condition in conditions
        for seed in seeds
    }
    tables.append(post_training_table(results, tasks, max(at_tokens), conditions, seeds))
    for models, words in (("exports", "final export"), ("sft", "fine-tuned")):
        probes = {run: folder / "probes" / f"{models}.json" for run, folder in results.items()}
        tables.append(arithmetic_table(words, probes, conditions, seeds))
    return tables


if __name__ == "__main__":
    run_stage(main)
