"""Compare the conditions on the same items: differences, intervals, detectable differences.

Reads losses/ and scores/ of the runs that params.yaml names. Writes

    metrics/outcomes.jsonl    the outcome of every document and item
    metrics/comparison.json   the figures of the last checkpoint and the fine-tuned model
    plots/comparisons.json, plots/comparisons.md, plots/differences.csv    all comparisons

Costs a few seconds at any size.
"""

from pathlib import Path

from common.errors import PipelineError, run_stage
from common.files import write_bytes, write_json
from common.sections import read_section
from model.comparison.difference_tables import (
    comparison_json,
    comparison_table,
    differences_csv,
    headline,
)
from model.comparison.family import Row, judge
from model.comparison.outcomes import Outcomes, answered, evaluated, probed, validated
from model.comparison.outcomes_file import Key, outcome_lines
from model.comparison.runs import compare_runs
from model.comparison.verdict import limits, sentences
from model.params.tasks import Tasks
from model.tasks.listing import listed
from model.tasks.table import Task

LOSSES = Path("losses")
SCORES = Path("scores")
METRICS = Path("metrics")
PLOTS = Path("plots")


def main() -> None:
    first, *others = conditions = list(read_section("conditions", dict))
    seeds = read_section("seeds", list[int])
    steps = read_section("pretrain.checkpoint_steps", list[int])
    tasks = listed(read_section("tasks", Tasks))
    found = {
        Key(condition, seed, model, figure): outcomes
        for condition in conditions
        for seed in seeds
        for (model, figure), outcomes in figures(f"{condition}/seed_{seed}", steps, tasks).items()
    }
    # All comparisons of the other conditions with the first are one family: their p values are
    # corrected together.
    family = judge([row for other in others for row in rows(found, first, other, seeds)])
    words, unseen = sentences(first, family), limits(family)
    write_bytes(METRICS / "outcomes.jsonl", outcome_lines(found).encode())
    write_json(
        METRICS / "comparison.json",
        headline(first, family, {f"step {steps[-1]}": "pretrained", "fine-tuned": "fine_tuned"}),
    )
    table = comparison_table(first, family)
    write_json(
        PLOTS / "comparisons.json",
        {
            "first": first,
            "sentences": words,
            "limits": unseen,
            "comparisons": [comparison_json(judged) for judged in family],
            "table": table.json(),
        },
    )
    bullets = "\n".join(f"- {line}" for line in [*words[1:], *unseen])
    write_bytes(PLOTS / "comparisons.md", f"{words[0]}\n\n{bullets}\n\n{table.markdown()}".encode())
    write_bytes(PLOTS / "differences.csv", differences_csv(family))
    print(f"compare: {words[0]}")


def figures(run: str, steps: list[int], tasks: list[Task]) -> dict[tuple[str, str], Outcomes]:
    """Return the outcomes of one run by model and figure.

    Models are the checkpoints and the fine-tuned model: `step 800`, …, `fine-tuned`. The last
    checkpoint also has losses of validation documents and answers to the probes.
    """
    scores = SCORES / run
    *earlier, last = steps
    by_model = {f"step {step}": evaluated(scores / f"step_{step}", tasks) for step in earlier}
    by_model[f"step {last}"] = (
        validated(LOSSES / run)
        | evaluated(scores / f"step_{last}", tasks, has_true_endings=True)
        | probed(scores / "probes/exports")
    )
    by_model["fine-tuned"] = answered(scores / "gsm8k") | probed(scores / "probes/sft")
    return {
        (model, name): outcomes
        for model, of_model in by_model.items()
        for name, outcomes in of_model.items()
    }


def rows(found: dict[Key, Outcomes], first: str, other: str, seeds: list[int]) -> list[Row]:
    """Return the comparisons of two conditions.

    Raises PipelineError unless all runs answered the same items.
    """
    try:
        return compare_runs(found, found, (first, other), seeds)
    except ValueError as error:
        raise PipelineError(f"compare: {first} and {other}: {error}; run dvc repro") from None


if __name__ == "__main__":
    run_stage(main)
